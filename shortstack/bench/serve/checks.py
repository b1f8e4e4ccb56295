"""Whether all senders emitted the same tokens: all are compared with plain decoding in process.

Decoding is greedy, so the answer to a prompt is one sequence, of which a request with a shorter
limit gets the beginning: one continuation per prompt judges all of a load.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shortstack.bench.open_bench import ENVIRONMENTS
from shortstack.bench.prompts import BenchPrompt
from shortstack.bench.serve.result import Outcome, Result
from shortstack.bench.serve.senders import Ends
from shortstack.bench.torch_messages import Answer, Order
from shortstack.bench.torch_peer import ModelChoice, TorchPeer
from shortstack.checking.compare import NEAR_TIE_GAP, Difference, compare
from shortstack.checking.compare import Outcome as Verdict

MAX_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Found:
    """A request whose tokens were not those expected."""

    sender: str
    prompt_id: str
    difference: Difference

    def __str__(self) -> str:
        """Return the line of a log."""
        found = self.difference
        return (
            f"{self.prompt_id}: {self.sender} differs at token {found.index}: {found.actual} "
            f"instead of {found.expected}, top-two gap {found.gap:.2g} ({found.outcome.value})"
        )


@dataclass(frozen=True, slots=True)
class Check:
    """What the comparison of one sender's answers came to."""

    num_compared: int
    num_near_ties: int
    num_mismatches: int


async def expected_answers(
    choice: ModelChoice, prompts: Iterable[BenchPrompt], max_new_tokens: int, ends: Ends
) -> dict[str, Answer]:
    """Continue every prompt plainly, in a process of its own; keyed by the prompt's id.

    Raises:
        CommandError: the process ended.
    """
    eos_token_ids = () if ends.ignore_eos else ends.eos_token_ids
    async with TorchPeer("plain", choice, ENVIRONMENTS[-1]) as plain:
        return {
            prompt.prompt_id: await plain.generate(
                Order(prompt.token_ids, max_new_tokens, eos_token_ids, with_gaps=True)
            )
            for prompt in prompts
        }


def differences(
    sender: str, results: Iterable[Result], expected: Mapping[str, Answer]
) -> list[Found]:
    """Compare the whole answers of one sender; return those that differ."""
    found = []
    for result in results:
        if result.outcome is not Outcome.DONE:
            continue
        prompt_id, limit = result.item.prompt.prompt_id, result.item.max_new_tokens
        answer = expected[prompt_id]
        difference = compare(result.token_ids, answer.token_ids[:limit], answer.gaps, NEAR_TIE_GAP)
        if difference.outcome is not Verdict.EQUAL:
            found.append(Found(sender, prompt_id, difference))
    return found


def check_of(results: Iterable[Result], found: Iterable[Found]) -> Check:
    """Count what was compared and what was found."""
    verdicts = [each.difference.outcome for each in found]
    return Check(
        sum(result.outcome is Outcome.DONE for result in results),
        verdicts.count(Verdict.NEAR_TIE),
        verdicts.count(Verdict.MISMATCH),
    )
