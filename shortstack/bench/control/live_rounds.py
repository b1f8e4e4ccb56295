"""A static setting's rounds as they were served, and as measured times have them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.control.replay.step_times import DraftLoad, StepTimes
from shared.speculation.vocabulary import Decision, SpeculationSummary
from shortstack.bench.samples import Sample, total_speculation


def rounds_of(samples: Sequence[Sample]) -> SpeculationSummary:
    """Return the rounds behind the first message; a session counts its prefill as a plain one."""
    did = total_speculation(samples)
    return replace(did, num_plain_rounds=did.num_plain_rounds - len(samples))


@dataclass(frozen=True, slots=True)
class LiveRounds:
    """What a setting's sessions did, behind their first messages, and what that took.

    pass_ns: of verify passes and plain steps, of decode_ns in all.
    """

    arm: Decision
    did: SpeculationSummary
    decode_ns: int
    pass_ns: int

    @property
    def num_rounds(self) -> int:
        """Rounds with drafts and without."""
        return self.did.num_drafts + self.did.num_plain_rounds

    @property
    def mean_ns(self) -> float:
        """Time of a round in the mean; 0 without any."""
        return self.decode_ns / self.num_rounds if self.num_rounds else 0.0

    def mean_draft(self, times: StepTimes) -> tuple[float, float]:
        """Return what the draft phase and the pass of a round with drafts take by these times.

        In the mean; drafts that the end of a text cut short count as the mean draft.
        """
        mean_len = self.did.num_draft_tokens / self.did.num_drafts
        low, part = int(mean_len), mean_len % 1.0
        phase_ns, pass_ns = 0.0, 0.0
        for draft_len, share in ((max(1, low), 1.0 - part), (low + 1, part)):
            exit_layer = self.arm.exit_layer
            phase_ns += share * times.draft_phase_ns([DraftLoad(exit_layer, draft_len)])
            pass_ns += share * times.pass_ns({exit_layer: draft_len + 1}, 1)
        return phase_ns, pass_ns

    def mean_ns_by(self, times: StepTimes) -> float:
        """Return the time of a round in the mean by these times; there is one at least."""
        draft_share = self.did.num_drafts / self.num_rounds
        total_ns = (1.0 - draft_share) * times.pass_ns({0: 1}, 1) + times.overhead_ns
        if draft_share:
            total_ns += draft_share * sum(self.mean_draft(times))
        return total_ns


def live_rounds(arm: Decision, samples: Sequence[Sample]) -> LiveRounds:
    """Add up the sessions of a setting."""
    return LiveRounds(
        arm,
        rounds_of(samples),
        sum(sample.decode_ns for sample in samples),
        sum(sample.pass_ns for sample in samples),
    )
