"""What a request used, and what speculation did for it, with the keys that clients read.

Names are those of OpenAI (usage) and vLLM (`metrics.speculative_decoding`), which load generators
know. Entries of `detailed` belong to the rounds that had a draft, in their order, choice by choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from services.gateway.completion import DraftReport, Finished, Tokens
from shared.speculation.vocabulary import SpeculationSummary


@dataclass(slots=True)
class Tally:
    """What is counted of one choice."""

    is_first_of_prompt: bool
    keeps_drafts: bool = False
    drafts: list[DraftReport] = field(default_factory=list)
    finished: Finished | None = None

    def note(self, tokens: Tokens) -> None:
        """Keep what became of a round's draft, where that is to be told."""
        if self.keeps_drafts and tokens.draft is not None:
            self.drafts.append(tokens.draft)


def usage_of(tallies: Sequence[Tally]) -> dict[str, Any]:
    """Return the usage of choices that have ended; a prompt counts once, whatever its choices."""
    ends = [(tally.is_first_of_prompt, tally.finished) for tally in tallies]
    finished = [each for _, each in ends if each is not None]
    firsts = [each for is_first, each in ends if is_first and each is not None]
    summary = _sum_of(finished)
    num_prompt = sum(each.prompt_len for each in firsts)
    num_emitted = sum(each.num_emitted for each in finished)
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_emitted,
        "total_tokens": num_prompt + num_emitted,
        "prompt_tokens_details": {"cached_tokens": sum(each.num_cached_tokens for each in firsts)},
        "completion_tokens_details": {
            "accepted_prediction_tokens": summary.num_accepted_tokens,
            "rejected_prediction_tokens": summary.num_draft_tokens - summary.num_accepted_tokens,
        },
    }


def speculation_of(tallies: Sequence[Tally], *, is_detailed: bool) -> dict[str, Any]:
    """Return what speculation did for choices that have ended."""
    summary = _sum_of([tally.finished for tally in tallies if tally.finished is not None])
    drafts = [draft for tally in tallies for draft in tally.drafts]
    longest = max((draft.draft_len for draft in drafts), default=0)
    num_steps, num_accepted = summary.num_drafts, summary.num_accepted_tokens
    histogram = [*summary.acceptance_histogram, *[0] * (longest + 1)][: longest + 1]
    told: dict[str, Any] = {
        # The target's own token of a round counts, cut off by a stop or not.
        "mean_acceptance_length": 1 + num_accepted / num_steps if num_steps else 0.0,
        "draft_acceptance_rate": summary.acceptance_rate,
        "acceptance_histogram": histogram if num_steps else [],
        "num_spec_steps": num_steps,
        "num_accepted_draft_tokens": num_accepted,
        "num_draft_tokens": summary.num_draft_tokens,
        # Draft lengths are chosen round by round: the longest.
        "num_spec_tokens": longest,
    }
    if is_detailed:
        told |= {
            "per_step_accepted": [draft.num_accepted for draft in drafts],
            "per_step_drafted": [draft.draft_len for draft in drafts],
            "exit_layers": [draft.exit_layer for draft in drafts],
            "methods": [draft.method for draft in drafts],
            "reasons": [draft.reason for draft in drafts],
        }
    return told


def _sum_of(finished: Sequence[Finished]) -> SpeculationSummary:
    total = SpeculationSummary()
    for each in finished:
        total.add(each.summary)
    return total
