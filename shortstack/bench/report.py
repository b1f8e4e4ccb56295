"""What a measurement of decoding found, as one value, and its JSON. Pure.

The headline is decode speed as a client sees it: from the first tokens to the last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from shared.speculation.cost_model import CostTable, round_ns, speedup_from_emitted
from shared.speculation.draft_vocab import AUTO
from shared.speculation.vocabulary import SpeculationSummary
from shared.telemetry.machine import Machine
from shortstack.bench.samples import (
    Peer,
    PeerSpeed,
    Sample,
    kinds_of,
    of_peer,
    ratio,
    speeds_by_peer,
    total_speculation,
)
from shortstack.checking.compare import Difference, Outcome, count

NUM_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Conditions:
    """What was measured: model, prompts and settings."""

    model_dir: Path
    num_layers: int
    dtype: str
    device: str
    num_threads: int
    num_prompts: int
    max_new_tokens: int
    repeats: int
    exit_layer: int
    draft_len: int
    stop_threshold: float
    notes: Mapping[str, str]
    draft_vocab: str = AUTO
    exit_adapters: str = AUTO


@dataclass(frozen=True, slots=True)
class Memory:
    """Proportional set size of processes that were alone on the machine."""

    pss_split_bytes: int | None = None
    pss_plain_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The pipeline as measured costs predict it, for the drafts that it made and kept.

    overhead_ms is what a measured round took beyond the predicted one: processes, messages, waits.
    """

    speedup: float
    round_ms: float
    measured_round_ms: float

    @property
    def overhead_ms(self) -> float:
        """Measured less predicted."""
        return self.measured_round_ms - self.round_ms


@dataclass(frozen=True, slots=True)
class DecodeReport:
    """A whole measurement."""

    machine: Machine
    conditions: Conditions
    samples: Sequence[Sample]
    differences: Sequence[tuple[Peer, str, Difference]]
    memory: Memory
    costs: CostTable | None

    @property
    def speculation(self) -> SpeculationSummary:
        """What speculation did in the pipeline."""
        return total_speculation(of_peer(self.samples, Peer.PIPELINE))

    @property
    def num_mismatches(self) -> int:
        """Prompts on which a peer emitted other tokens than plain decoding."""
        return count((found for _, _, found in self.differences), Outcome.MISMATCH)

    @property
    def num_near_ties(self) -> int:
        """The same, where the two best tokens scored practically the same."""
        return count((found for _, _, found in self.differences), Outcome.NEAR_TIE)

    def prediction(self) -> Prediction | None:
        """Compare with the cost model; None without costs or drafts."""
        return None if self.costs is None else predict(self.costs, self)

    def to_json(self) -> dict[str, Any]:
        """Return everything that is published, rounded."""
        speeds = speeds_by_peer(self.samples)
        pipeline = speeds.get(Peer.PIPELINE)
        prediction = self.prediction()
        values: dict[str, Any] = {f"{peer.key}_tok_s": _decode(speeds, peer) for peer in Peer}
        values |= {
            f"{peer.key}_end_to_end_tok_s": speed.end_to_end_tok_s for peer, speed in speeds.items()
        }
        values |= {f"{peer.key}_tok_s_range": s.decode_tok_s_range for peer, s in speeds.items()}
        values |= {f"speedup_over_{peer.key}": ratio(speeds, peer) for peer in others()}
        values |= {
            "ttft_ms": pipeline.ttft_ms if pipeline else None,
            "ttft_ms_by_peer": {peer.key: speed.ttft_ms for peer, speed in speeds.items()},
            "acceptance_rate": self.speculation.acceptance_rate,
            "mean_emitted_len": self.speculation.mean_emitted_len,
            "draft_rounds": self.speculation.num_drafts,
            "plain_rounds": self.speculation.num_plain_rounds,
            "predicted_speedup": prediction.speedup if prediction else None,
            "predicted_round_ms": prediction.round_ms if prediction else None,
            "measured_round_ms": prediction.measured_round_ms if prediction else None,
            "mismatches": self.num_mismatches,
            "near_ties": self.num_near_ties,
            "by_kind": {kind: self._kind(kind) for kind in kinds_of(self.samples)},
        }
        conditions = asdict(self.conditions) | {"model_dir": self.conditions.model_dir.name}
        named = {"conditions": conditions, "machine": asdict(self.machine)}
        rounded: dict[str, Any] = rounded_values(values | asdict(self.memory) | named)
        return rounded

    def _kind(self, kind: str) -> dict[str, Any]:
        samples = [sample for sample in self.samples if sample.kind == kind]
        speculation = total_speculation(of_peer(samples, Peer.PIPELINE))
        speeds = speeds_by_peer(samples)
        return {f"{peer.key}_tok_s": _decode(speeds, peer) for peer in speeds} | {
            "acceptance_rate": speculation.acceptance_rate,
            "mean_emitted_len": speculation.mean_emitted_len,
        }


def others() -> list[Peer]:
    """Return the peers that the pipeline is compared with."""
    return [peer for peer in Peer if peer is not Peer.PIPELINE]


def _decode(speeds: Mapping[Peer, PeerSpeed], peer: Peer) -> float | None:
    return speeds[peer].decode_tok_s if peer in speeds else None


def predict(costs: CostTable, report: DecodeReport) -> Prediction | None:
    """Feed the cost model with the drafts that the pipeline made and kept."""
    did, exit_layer = report.speculation, report.conditions.exit_layer
    if not did.num_drafts or exit_layer not in costs.exits:
        return None
    draft_len = did.num_draft_tokens / did.num_drafts
    return Prediction(
        speedup=speedup_from_emitted(costs, exit_layer, did.mean_emitted_len, draft_len),
        round_ms=round_ns(costs, exit_layer, draft_len) / 1e6,
        measured_round_ms=median_round_ms(of_peer(report.samples, Peer.PIPELINE)),
    )


def median_round_ms(samples: Sequence[Sample]) -> float:
    """Return decode time per round with a draft; the median, as a stall must not count for all."""
    rounds = [(sample.decode_ns, sample.speculation) for sample in samples]
    return median(ns / did.num_drafts / 1e6 for ns, did in rounds if did and did.num_drafts)


def rounded_values(value: Any) -> Any:
    """Return JSON with its floats cut to a few significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{NUM_DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: rounded_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded_values(item) for item in value]
    return value
