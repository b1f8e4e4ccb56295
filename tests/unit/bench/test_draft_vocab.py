"""The bench of a draft vocabulary: what it refuses, what it reports, and that it runs."""

import pytest

from shortstack.bench.draft_steps import DraftStepTimes, measure_draft_steps
from shortstack.bench.draft_vocab import check, describe, make_result, shape_of
from shortstack.errors import UsageError


@pytest.mark.parametrize(
    ("hidden", "size", "exit_layer", "words"),
    [
        (100, 64, 1, "--hidden 100"),
        (128, 64, 4, "--exit-layer 4"),
        (128, 1, 1, "--size 1"),
        (128, 2000, 1, "--size 2000"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_its_option(
    hidden: int, size: int, exit_layer: int, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        check(shape_of(4, hidden, 2000), [100, size], exit_layer)
    check(shape_of(4, 128, 2000), [100, 1999], 3)


def test_ratios_are_the_whole_step_over_the_part() -> None:
    times = DraftStepTimes(1000.0, {900: 9000.0, 90: 3000.0}, {900: 17000.0, 90: 5000.0})
    result = make_result(times, 900, {"shape": {"vocab_size": 900}})
    greedy, sampled = result["steps"]
    assert (greedy["mode"], greedy["draft_tokens"], greedy["ratio"]) == ("greedy", 90, 3.0)
    assert greedy["head_and_choice_ratio"] == 4.0
    assert (sampled["mode"], sampled["ratio"], sampled["step_us"]) == ("sampled", 3.4, 5.0)
    assert result["machine"]["num_cores"] >= 1
    assert "90 of 900 tokens" in describe(result)


def test_every_size_is_measured_in_both_modes() -> None:
    times = measure_draft_steps(shape_of(2, 64, 1024), 1, [64, 128], 1)
    assert list(times.greedy_ns) == list(times.sampled_ns) == [1024, 64, 128]
    assert times.layers_alone_ns > 0
