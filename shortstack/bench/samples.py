"""Samples of decoding and what they add up to: medians, means, ratios. Pure.

A sample is one prompt decoded once by one peer. Two speeds are kept apart:

    decode       tokens after the first message / time from the first tokens to the last
    end to end   all tokens / time from sending the request to the last tokens

A peer's speed is the mean over prompts of the median over repeats; a ratio of peers is the ratio of
their speeds. Knows nothing of processes or clocks.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, median

from shared.speculation.vocabulary import SpeculationSummary


class Peer(StrEnum):
    """A way of decoding; values are what `--peers` takes and what JSON keys begin with."""

    PIPELINE = "pipeline"
    FUSED = "fused"
    PLAIN = "plain"
    PLAIN_GATEWAY = "plain-gateway"
    HF = "hf"
    HF_EARLY_EXIT = "hf-early-exit"

    @property
    def key(self) -> str:
        """Name in JSON."""
        return self.value.replace("-", "_")


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt decoded once. first_len tokens came with the first message, after first_ns.

    pass_ns: what verify passes and plain steps took of decode_ns; 0 of a peer that does not tell.
    """

    peer: Peer
    prompt_id: str
    kind: str
    token_ids: tuple[int, ...]
    first_len: int
    first_ns: int
    decode_ns: int
    speculation: SpeculationSummary | None = None
    pass_ns: int = 0

    @property
    def decode_tok_s(self) -> float | None:
        """Decode speed; None where everything came with the first message."""
        num_tokens = len(self.token_ids) - self.first_len
        return num_tokens / (self.decode_ns / 1e9) if num_tokens > 0 else None

    @property
    def end_to_end_tok_s(self) -> float:
        """Speed with the prompt's own time."""
        return len(self.token_ids) / ((self.first_ns + self.decode_ns) / 1e9)


@dataclass(frozen=True, slots=True)
class PeerSpeed:
    """What the samples of one peer add up to; the range is that of single samples."""

    decode_tok_s: float
    decode_tok_s_range: tuple[float, float]
    end_to_end_tok_s: float
    ttft_ms: float
    num_samples: int


def of_peer(samples: Iterable[Sample], peer: Peer) -> list[Sample]:
    """Return the samples of one peer."""
    return [sample for sample in samples if sample.peer is peer]


def speed_of(samples: Sequence[Sample]) -> PeerSpeed | None:
    """Sum up the samples of one peer; None where no sample has a decode speed."""
    timed = [sample for sample in samples if sample.decode_tok_s is not None]
    if not timed:
        return None
    speeds = [_decode_tok_s(sample) for sample in timed]
    return PeerSpeed(
        decode_tok_s=_mean_of_medians(timed, _decode_tok_s),
        decode_tok_s_range=(min(speeds), max(speeds)),
        end_to_end_tok_s=_mean_of_medians(timed, lambda sample: sample.end_to_end_tok_s),
        ttft_ms=_mean_of_medians(timed, lambda sample: sample.first_ns / 1e6),
        num_samples=len(timed),
    )


def _decode_tok_s(sample: Sample) -> float:
    speed = sample.decode_tok_s
    assert speed is not None
    return speed


def _mean_of_medians(samples: Sequence[Sample], value: Callable[[Sample], float]) -> float:
    """Return the mean over prompts of the median over a prompt's samples."""
    by_prompt: dict[str, list[float]] = {}
    for sample in samples:
        by_prompt.setdefault(sample.prompt_id, []).append(value(sample))
    return fmean(median(values) for values in by_prompt.values())


def speeds_by_peer(samples: Sequence[Sample]) -> dict[Peer, PeerSpeed]:
    """Sum up every peer that has a speed, in the order of `Peer`."""
    speeds = {peer: speed_of(of_peer(samples, peer)) for peer in Peer}
    return {peer: speed for peer, speed in speeds.items() if speed is not None}


def ratio(speeds: dict[Peer, PeerSpeed], over: Peer, peer: Peer = Peer.PIPELINE) -> float | None:
    """Return how many times faster `peer` decodes than `over`; None where one was not measured."""
    if peer not in speeds or over not in speeds:
        return None
    return speeds[peer].decode_tok_s / speeds[over].decode_tok_s


def total_speculation(samples: Iterable[Sample]) -> SpeculationSummary:
    """Add up what speculation did; peers that do not report it count as nothing."""
    total = SpeculationSummary()
    for sample in samples:
        if sample.speculation is not None:
            total.add(sample.speculation)
    return total


def kinds_of(samples: Iterable[Sample]) -> list[str]:
    """Return the kinds of prompt, in the order of their first sample."""
    return list(dict.fromkeys(sample.kind for sample in samples))
