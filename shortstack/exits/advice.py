"""Whether speculating with a model pays, in words. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.speculation.cost_model import CostTable, needed_acceptance
from shortstack.bench.sweep import Setting
from shortstack.exits.outlook import Cell, Outlook

# Below this, what was measured is no surer than what is gained.
MIN_SPEEDUP = 1.02


@dataclass(frozen=True, slots=True)
class Advice:
    """The verdict on a model, a sentence per line."""

    is_worth_it: bool
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Shortfall:
    """How far an exit is from paying: shares in [0, 1]; needed None where nothing would do."""

    exit_layer: int
    agreement: float
    needed: float | None

    @property
    def gap(self) -> float:
        return (2.0 if self.needed is None else self.needed) - self.agreement


def advise(
    overall: Outlook, by_kind: Mapping[str, Outlook], costs: CostTable, max_draft_len: int
) -> Advice:
    """Say whether any one static setting is predicted to pay, and for which kinds of text."""
    if overall.best.predicted_speedup >= MIN_SPEEDUP:
        return Advice(True, (_praise(overall.best), *_kinds_that_lose(by_kind)))
    lines = [
        "not worth speculating with: the best static setting,"
        f" {name_of(overall.best.setting)}, is predicted to reach"
        f" {overall.best.predicted_speedup:.2f} x plain decoding",
        _why(overall, costs, max_draft_len),
        "the usual cause is a model that was not trained to exit early (training/ has the recipe)",
    ]
    if winners := [kind for kind, each in by_kind.items() if _pays(each)]:
        gains = ", ".join(f"{k} ({by_kind[k].best.predicted_speedup:.2f} x)" for k in winners)
        lines.append(f"it pays for some texts, each at its own best setting: {gains}")
    else:
        lines.append("serve it with --method off")
    return Advice(False, tuple(lines))


def name_of(setting: Setting) -> str:
    """Name a setting by its parts."""
    drafts = "draft" if setting.draft_len == 1 else "drafts"
    return (
        f"exit {setting.exit_layer} with up to {setting.draft_len} {drafts}"
        f" (stop threshold {setting.stop_threshold:g})"
    )


def _pays(outlook: Outlook) -> bool:
    return outlook.best.predicted_speedup >= MIN_SPEEDUP


def _praise(best: Cell) -> str:
    return (
        f"worth speculating with: {name_of(best.setting)} is predicted to reach"
        f" {best.predicted_speedup:.2f} x plain decoding over all texts,"
        f" {best.replay.summary.mean_emitted_len:.2f} tokens per round"
    )


def _kinds_that_lose(by_kind: Mapping[str, Outlook]) -> list[str]:
    losers = [kind for kind, each in by_kind.items() if not _pays(each)]
    return [f"for {', '.join(losers)} --method off is as good or better"] if losers else []


def _why(overall: Outlook, costs: CostTable, max_draft_len: int) -> str:
    """Name the exit that lacks least."""
    nearest = min(_shortfalls(overall, costs, max_draft_len), key=lambda each: each.gap)
    agrees = (
        f"exit {nearest.exit_layer} comes nearest: it agrees with the last layer on"
        f" {nearest.agreement:.0%} of the tokens"
    )
    if nearest.needed is None:
        return f"{agrees}, but a round there costs more than even {max_draft_len} kept drafts save"
    if nearest.gap <= 0:
        return f"{agrees}; {nearest.needed:.0%} would do if its misses were evenly spread"
    return f"{agrees}, and at least {nearest.needed:.0%} would be needed"


def _shortfalls(overall: Outlook, costs: CostTable, max_draft_len: int) -> list[_Shortfall]:
    return [
        _Shortfall(
            exit_layer, share, needed_acceptance(costs, exit_layer, max_draft_len, MIN_SPEEDUP)
        )
        for exit_layer, share in overall.agreement.items()
    ]
