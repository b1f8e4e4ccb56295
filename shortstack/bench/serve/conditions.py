"""What a number of this bench means nothing without: model, load, settings. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from shared.telemetry.machine import Machine
from shortstack.bench.report import rounded_values
from shortstack.bench.serve.plan import ServePlan


@dataclass(frozen=True, slots=True)
class Conditions:
    """What was measured. `notes` says how each peer ran, `missing` why one did not."""

    model: str
    num_layers: int
    dtype: str
    device: str
    num_threads: int
    cell_kind: str
    environ: Mapping[str, str]
    num_prompts: int
    prompt_lens: tuple[int, int]
    mean_prompt_len: float
    max_new_tokens: str
    repeats: int
    seed: int
    ignore_eos: bool
    shares_prefixes: bool
    notes: Mapping[str, str]
    missing: Mapping[str, str]

    @property
    def headline(self) -> str:
        """The title of a table."""
        low, high = self.prompt_lens
        return (
            f"{self.model}, {self.dtype}, {self.cell_kind} cell, prompts of {low}-{high} tokens, "
            f"answers of at most {self.max_new_tokens}, "
            f"prefixes {'shared' if self.shares_prefixes else 'computed every time'}"
        )


def make_conditions(
    plan: ServePlan,
    num_layers: int,
    notes: Mapping[str, str] | None = None,
    missing: Mapping[str, str] | None = None,
) -> Conditions:
    """Return what reports say of a plan."""
    lens = [len(prompt.token_ids) for prompt in plan.prompts]
    return Conditions(
        model=plan.choice.model_dir.resolve().name,
        num_layers=num_layers,
        dtype=plan.choice.dtype,
        device=plan.choice.device,
        num_threads=plan.choice.num_threads,
        cell_kind=plan.cell_kind.value,
        environ=plan.environ,
        num_prompts=len(lens),
        prompt_lens=(min(lens), max(lens)),
        mean_prompt_len=fmean(lens),
        max_new_tokens=str(plan.mix),
        repeats=plan.repeats,
        seed=plan.seed,
        ignore_eos=plan.ignore_eos,
        shares_prefixes=plan.shares_prefixes,
        notes=notes or {},
        missing=missing or {},
    )


def published(
    scenario: str, conditions: Conditions, machine: Machine, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the JSON of a scenario, rounded."""
    named = {"conditions": asdict(conditions), "machine": asdict(machine)}
    rounded: dict[str, Any] = rounded_values({"scenario": scenario} | dict(values) | named)
    return rounded


def machine_line(machine: Machine) -> str:
    """Return the line that names the machine."""
    return (
        f"{machine.cpu_model}, {machine.num_cores} cores, "
        f"{machine.memory_bytes / 2**30:.0f} GiB, load {machine.load_average:.1f} at start"
    )
