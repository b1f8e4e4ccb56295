"""The load: lengths, the order of prompts, arrivals; equal seeds give equal lists."""

import random
from itertools import islice, pairwise
from statistics import fmean

import pytest

from shortstack.bench.serve.made_prompts import made_prompt, made_prompts, random_ids
from shortstack.bench.serve.soak_load import draw_soak, make_pools
from shortstack.bench.serve.workload import (
    LengthMix,
    draw_items,
    parse_length_mix,
    poisson_arrivals,
)
from shortstack.errors import UsageError
from tests.unit.bench.serve.builders import PROMPTS


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("64", ((64, 64),)),
        ("32, 64,128", ((32, 32), (64, 64), (128, 128))),
        ("8-16,128", ((8, 16), (128, 128))),
    ],
)
def test_length_mixes_are_read(text: str, ranges: tuple[tuple[int, int], ...]) -> None:
    mix = parse_length_mix(text)
    assert mix.ranges == ranges
    assert parse_length_mix(str(mix)) == mix


@pytest.mark.parametrize("text", ["", "x", "0", "16-8", "-4", "8-x"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--max-new-tokens"):
        parse_length_mix(text)


def test_lengths_are_drawn_from_every_range_and_never_beside() -> None:
    mix = LengthMix(((1, 3), (10, 10)))
    source = random.Random(0)
    drawn = {mix.draw(source) for _ in range(200)}
    assert drawn == {1, 2, 3, 10}
    assert mix.longest == 10


def test_equal_seeds_draw_equal_requests() -> None:
    mix = LengthMix(((1, 100),))
    lists = [list(islice(draw_items(PROMPTS, mix, seed), 20)) for seed in ("1", "1", "2")]
    assert lists[0] == lists[1] != lists[2]
    assert [each.index for each in lists[0]] == list(range(20))


def test_all_prompts_come_before_one_comes_again() -> None:
    drawn = list(islice(draw_items(PROMPTS, LengthMix(((4, 4),)), "1"), 8))
    rounds = [{drawn[i].prompt.prompt_id, drawn[i + 1].prompt.prompt_id} for i in range(0, 8, 2)]
    assert rounds == [{"a", "b"}] * 4


def test_arrivals_rise_at_the_rate_that_was_asked_for() -> None:
    arrivals_s = list(islice(poisson_arrivals(20.0, "1"), 4000))
    assert arrivals_s == list(islice(poisson_arrivals(20.0, "1"), 4000))
    assert all(before < after for before, after in pairwise(arrivals_s))
    gaps_s = [after - before for before, after in pairwise(arrivals_s)]
    assert fmean(gaps_s) == pytest.approx(1 / 20, rel=0.06)
    # Exponential: as wide as it is long, which equal gaps are not.
    assert fmean(gap**2 for gap in gaps_s) == pytest.approx(2 / 20**2, rel=0.15)


def test_made_prompts_are_of_the_vocabulary_and_no_two_alike() -> None:
    prompts = list(islice(made_prompts("long", 12, 400, "s"), 5))
    assert len({prompt.token_ids for prompt in prompts}) == 5
    assert len({prompt.prompt_id for prompt in prompts}) == 5
    assert all(3 <= id_ < 400 for prompt in prompts for id_ in prompt.token_ids)
    assert min(random_ids(500, 5000, "s")) >= 300


def test_a_prefix_stands_before_what_is_made() -> None:
    first, other = (made_prompt(name, 4, 400, "s", prefix=(9, 9)) for name in ("x", "y"))
    assert first.token_ids[:2] == other.token_ids[:2] == (9, 9)
    assert first.token_ids[2:] != other.token_ids[2:]
    assert len(first.token_ids) == 6


def test_a_soak_draws_from_all_pools_and_cancels_some() -> None:
    pools = make_pools(PROMPTS, 400, 64, "s")
    assert max(len(prompt.token_ids) for prompt in pools.all) <= 64
    assert len({prompt.token_ids[:48] for prompt in pools.sharing}) == 1
    drawn = list(islice(draw_soak(pools, LengthMix(((4, 8),)), 2, "s"), 300))
    assert {each.item.prompt.prompt_id for each in drawn} == {p.prompt_id for p in pools.all}
    assert {each.sender_index for each in drawn} == {0, 1}
    num_cancelled = sum(each.cancel_after_s is not None for each in drawn)
    assert 40 < num_cancelled < 120
