"""Which texts came slower than by plain decoding. Pure.

Steps of a small model take as long as the machine's mood has it: single texts differ by ten per
cent, and so does plain decoding from itself. But a text that was decoded without a draft ran the
same passes as plain decoding ran for it, each step one row through all layers, and cells tell
clients what these took, reads of exits apart. So its time is taken as if its passes had lasted as
long as plain decoding's:

    time * (mean plain pass / its own mean pass)

What else it did, deciding, reading and learning, counts in full, and a text with drafts as it came.
How many texts of plain decoding are slower than its own others tells what is left of the moods.
"""

from collections.abc import Mapping, Sequence
from statistics import median

from shortstack.bench.control.live_rounds import rounds_of
from shortstack.bench.control.plays import SLOWER
from shortstack.bench.samples import Sample


def share_slower(samples: Sequence[Sample], plain: Sequence[Sample]) -> float:
    """Return the share of prompts that were slower than plain decoding by over 2 %.

    The median over a prompt's repeats counts; prompts of which either has no time are left out.

    Args:
        samples: of one contender, any prompts.
        plain: of plain decoding.
    """
    own, others = _median_ns(samples, plain), _median_ns(plain, plain)
    prompts = [prompt for prompt in others if prompt in own]
    if not prompts:
        return 0.0
    return sum(others[prompt] / own[prompt] < SLOWER for prompt in prompts) / len(prompts)


def _median_ns(samples: Sequence[Sample], plain: Sequence[Sample]) -> dict[str, float]:
    pass_ns = _mean_pass_ns(plain)
    by_prompt: dict[str, list[float]] = {}
    for each in samples:
        if each.decode_tok_s is not None:
            own_ns = _alike_ns(each, pass_ns.get(each.prompt_id, 0.0))
            by_prompt.setdefault(each.prompt_id, []).append(own_ns)
    return {prompt: median(values) for prompt, values in by_prompt.items()}


def _mean_pass_ns(plain: Sequence[Sample]) -> Mapping[str, float]:
    """Return what a plain pass took in the mean, by prompt; of those whose cell told it."""
    sums: dict[str, tuple[int, int]] = {}
    for each in plain:
        num_rounds, ns = sums.get(each.prompt_id, (0, 0))
        num_rounds += rounds_of([each]).num_plain_rounds
        sums[each.prompt_id] = (num_rounds, ns + each.pass_ns)
    return {prompt: ns / num_rounds for prompt, (num_rounds, ns) in sums.items() if num_rounds > 0}


def _alike_ns(sample: Sample, pass_ns: float) -> float:
    """Return a text's time, its passes taken to last so long each; with drafts as it came."""
    did = rounds_of([sample])
    if did.num_drafts or sample.pass_ns <= 0 or pass_ns <= 0.0:
        return sample.decode_ns
    return sample.decode_ns * pass_ns * did.num_plain_rounds / sample.pass_ns
