"""How much slower texts came than by plain decoding. Pure.

Steps of a small model take as long as the machine's mood has it: single texts differ by ten per
cent, and so does plain decoding from itself. But a text that was decoded without a draft ran the
same passes as plain decoding ran for it, each step one row through all layers, and cells tell
clients what these took, reads of exits apart. So times are compared in passes, turn by turn:

    slowdown = (time / time of its passes) / (the same of plain decoding in that turn)

What else it did, deciding, reading and learning, counts in full; a text with drafts counts by its
time alone. What plain decoding differs from itself tells what is left of the moods.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median

from shortstack.bench.control.live_rounds import rounds_of
from shortstack.bench.control.plays import SLOWER
from shortstack.bench.samples import Sample


def slowdowns(samples: Sequence[Sample], *plain: Sequence[Sample]) -> dict[str, float]:
    """Return by prompt how many times as long it took as by plain decoding, in the middle turn.

    Prompts that had no time in any turn are left out.

    Args:
        samples: of one contender, turn by turn.
        plain: of plain decoding, of the same turns; the mean of several counts.
    """
    by_prompt: dict[str, list[float]] = {}
    for own, *others in zip(samples, *plain, strict=True):
        if all(each.decode_tok_s is not None for each in (own, *others)):
            by_prompt.setdefault(own.prompt_id, []).append(_slowdown(own, others))
    return {prompt: median(values) for prompt, values in by_prompt.items()}


def share_slower(found: Mapping[str, float]) -> float:
    """Return the share of prompts that were slower than plain decoding by over 2 %."""
    return fmean(1.0 / each < SLOWER for each in found.values()) if found else 0.0


def _slowdown(own: Sample, plain: Sequence[Sample]) -> float:
    ran = [own, *plain]
    if rounds_of([own]).num_drafts or not all(each.pass_ns > 0 for each in ran):
        return own.decode_ns / fmean(each.decode_ns for each in plain)
    first, *others = _in_passes(ran)
    return first / fmean(others)


def _in_passes(samples: Sequence[Sample]) -> Iterator[float]:
    """Iterate over times in mean passes of each sample."""
    for each in samples:
        yield each.decode_ns * rounds_of([each]).num_plain_rounds / each.pass_ns
