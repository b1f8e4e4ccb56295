"""Finds the best static setting per kind of prompt: a grid of (E, d, threshold), each measured.

Each setting decodes the same prompts through the pipeline; plain decoding through the same gateway
takes its turn among them. Times are those that a client sees.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from shared.telemetry.machine import Machine, describe_machine
from shortstack.bench.open_bench import DecodePlan, Watcher
from shortstack.bench.report import rounded_values
from shortstack.bench.runners import GatewayRunner, Work
from shortstack.bench.samples import Peer, Sample, kinds_of, of_peer, speed_of, total_speculation
from shortstack.client import Client
from shortstack.plan import CellKind
from shortstack.request import PLAIN, pinned
from shortstack.stack import Stack


@dataclass(frozen=True, slots=True)
class Setting:
    """A static choice."""

    exit_layer: int
    draft_len: int
    stop_threshold: float


@dataclass(frozen=True, slots=True)
class Grid:
    """Settings to try: every combination. No exits means the default for the model's depth."""

    exit_layers: tuple[int, ...] = ()
    draft_lens: tuple[int, ...] = (2, 3, 4, 6, 8)
    stop_thresholds: tuple[float, ...] = (0.0, 0.3, 0.6)

    def settings(self, num_layers: int) -> Iterator[Setting]:
        """Return the combinations whose exit the model has."""
        exits = self.exit_layers or default_exits(num_layers)
        usable = [exit_layer for exit_layer in exits if 1 <= exit_layer < num_layers]
        return (
            Setting(*values) for values in product(usable, self.draft_lens, self.stop_thresholds)
        )


def default_exits(num_layers: int) -> tuple[int, ...]:
    """Return exits from shallow to half of the layers; exit 1 is never trained by LayerSkip."""
    eighths = (num_layers // 8, num_layers // 4, num_layers * 3 // 8, num_layers // 2)
    return tuple(sorted({max(2, exit_layer) for exit_layer in eighths} - {num_layers}))


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """What one setting gave on one kind of prompt; speed-up is over plain through the gateway."""

    kind: str
    setting: Setting
    decode_tok_s: float
    speedup: float
    acceptance_rate: float
    mean_emitted_len: float


@dataclass(frozen=True, slots=True)
class SweepReport:
    """All points, and plain decoding by kind."""

    machine: Machine
    model_name: str
    plain_tok_s: Mapping[str, float]
    points: Sequence[SweepPoint]

    def best_by_kind(self) -> dict[str, SweepPoint]:
        """Return the fastest setting of every kind of prompt."""
        best: dict[str, SweepPoint] = {}
        for point in self.points:
            if point.kind not in best or point.decode_tok_s > best[point.kind].decode_tok_s:
                best[point.kind] = point
        return best

    def to_json(self) -> dict[str, Any]:
        """Return everything, rounded."""
        rounded: dict[str, Any] = rounded_values(
            {
                "model": self.model_name,
                "machine": asdict(self.machine),
                "plain_gateway_tok_s": self.plain_tok_s,
                "best_by_kind": {kind: _flat(p) for kind, p in self.best_by_kind().items()},
                "points": [_flat(point) for point in self.points],
            }
        )
        return rounded


def _flat(point: SweepPoint) -> dict[str, Any]:
    fields = asdict(point)
    setting: dict[str, Any] = fields.pop("setting")
    return setting | fields


Samples = dict[Setting | None, list[Sample]]


async def sweep(plan: DecodePlan, grid: Grid, watcher: Watcher) -> SweepReport:
    """Try every setting of the grid on every prompt, plan.repeats times.

    Raises:
        StackError: the stack did not come up.
        ShortstackError: a prompt was refused or a request failed.
    """
    machine = describe_machine()
    samples: Samples = {}
    async with (
        Stack(plan.stack_config(CellKind.SPLIT), watcher.on_event) as stack,
        Client(stack.target) as client,
    ):
        model = (await client.models()).models[0]
        settings = [None, *grid.settings(model.num_layers)]
        work = Work(plan.max_new_tokens, tuple(model.eos_token_ids), plan.ignore_eos)
        await _runner(client, work, None).run(plan.prompts[0])
        for turn in range(plan.repeats):
            for index, setting in enumerate(settings):
                watcher.on_stage(f"repeat {turn + 1}, setting {index + 1} of {len(settings)}")
                runner = _runner(client, work, setting)
                done = [await runner.run(prompt) for prompt in plan.prompts]
                samples.setdefault(setting, []).extend(done)
    return make_report(machine, plan.choice.model_dir.name, samples)


def _runner(client: Client, work: Work, setting: Setting | None) -> GatewayRunner:
    if setting is None:
        return GatewayRunner(Peer.PLAIN_GATEWAY, client, work, PLAIN)
    speculation = pinned(setting.exit_layer, setting.draft_len, setting.stop_threshold)
    return GatewayRunner(Peer.PIPELINE, client, work, speculation)


def make_report(machine: Machine, model_name: str, samples: Samples) -> SweepReport:
    """Sum up: one point per kind and setting, wherever both have a speed."""
    plain, points = {}, []
    for kind in kinds_of(samples[None]):
        baseline = speed_of(_of_kind(samples[None], kind))
        if baseline is None:
            continue
        plain[kind] = baseline.decode_tok_s
        for setting, own in samples.items():
            speed = speed_of(of_peer(_of_kind(own, kind), Peer.PIPELINE))
            if setting is not None and speed is not None:
                did = total_speculation(_of_kind(own, kind))
                points.append(
                    SweepPoint(
                        kind,
                        setting,
                        speed.decode_tok_s,
                        speed.decode_tok_s / baseline.decode_tok_s,
                        did.acceptance_rate,
                        did.mean_emitted_len,
                    )
                )
    return SweepReport(machine, model_name, plain, points)


def _of_kind(samples: Sequence[Sample], kind: str) -> list[Sample]:
    return [sample for sample in samples if sample.kind == kind]
