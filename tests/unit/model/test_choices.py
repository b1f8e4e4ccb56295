"""Choosing tokens: warping as transformers does it, penalties, ties, confidences."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from shared.ids import TokenId
from shared.model import sampling
from shared.model.noise import gumbel
from shared.model.sampling import RowChoice, choose, logprobs_of, warp
from shared.model.token_subset import TokenSubset
from shared.speculation.vocabulary import SamplingParams

CPU = torch.device("cpu")
VOCAB_SIZE = 200
GREEDY = SamplingParams()


def ids(tokens: Sequence[int]) -> list[TokenId]:
    return [TokenId(token) for token in tokens]


def random_logits(seed: int, num_rows: int = 1, vocab_size: int = VOCAB_SIZE) -> torch.Tensor:
    return 3.0 * torch.randn(num_rows, vocab_size, generator=torch.Generator().manual_seed(seed))


def reference_scores(
    logits: torch.Tensor, params: SamplingParams, history: list[int]
) -> torch.Tensor:
    """Return what transformers' own processors make of the logits."""
    steps = LogitsProcessorList()
    if params.repetition_penalty != 1.0:
        steps.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    steps.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        steps.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1.0:
        steps.append(TopPLogitsWarper(params.top_p))
    if params.min_p > 0.0:
        steps.append(MinPLogitsWarper(params.min_p))
    scores: torch.Tensor = steps(torch.tensor([history]), logits.clone())
    return scores


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.sampled_from((0.3, 0.7, 1.0, 1.9)),
    top_k=st.sampled_from((0, 1, 5, 40, VOCAB_SIZE, VOCAB_SIZE + 9)),
    top_p=st.sampled_from((1.0, 0.99, 0.9, 0.5, 0.05)),
    min_p=st.sampled_from((0.0, 0.02, 0.3, 1.0)),
    repetition_penalty=st.sampled_from((1.0, 1.3, 0.8)),
    history=st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=30),
)
def test_warping_equals_that_of_transformers(
    seed: int,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition_penalty: float,
    history: list[int],
) -> None:
    params = SamplingParams(temperature, top_k, top_p, min_p, 0, repetition_penalty)
    logits = random_logits(seed)
    row = RowChoice(params, len(history), 0, ids(history))
    before = logits.clone()
    found = warp(logits, [row])
    assert torch.equal(logits, before), "the logits were changed"
    expected = reference_scores(logits, params, history)
    assert torch.equal(found.isneginf(), expected.isneginf())
    torch.testing.assert_close(found.softmax(-1), expected.softmax(-1), atol=1e-6, rtol=1e-5)


def test_presence_and_frequency_count_generated_tokens_only() -> None:
    params = SamplingParams(1.0, presence_penalty=0.5, frequency_penalty=0.25)
    logits = torch.zeros(1, 8)
    # Tokens 1 and 2 are of the prompt; behind it 3 came twice, 4 once.
    row = RowChoice(params, 6, 3, ids([1, 2, 2, 3, 4, 3]))
    assert warp(logits, [row])[0].tolist() == [0, 0, 0, -1.0, -0.75, 0, 0, 0]


def test_penalties_see_the_history_of_each_row() -> None:
    params = SamplingParams(0.0, presence_penalty=2.0)
    logits = torch.tensor([[0.0, 1.0, 0.5]]).repeat(3, 1)
    rows = [RowChoice(params, n, 0, ids(history)) for n, history in enumerate(([], [1], [1, 2]), 0)]
    assert choose(logits, rows).tokens == [1, 2, 0]


def test_a_bias_is_added_before_everything_else_and_under_greedy_too() -> None:
    params = SamplingParams(0.0, logit_bias=((2, 5.0), (0, -5.0)))
    choices = choose(torch.tensor([[3.0, 0.0, 0.0]]), [RowChoice(params, 1)])
    assert choices.tokens == [2]


def test_ties_go_to_the_lowest_id() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0, 2.0], [5.0, 5.0, 5.0, 5.0]])
    for params in (SamplingParams(), SamplingParams(logit_bias=((0, 0.0),))):
        assert choose(logits, [RowChoice(params, 1), RowChoice(params, 2)]).tokens == [1, 0]


def test_rows_of_several_sessions_are_chosen_as_if_alone() -> None:
    """A mixed batch in any order: greedy, penalised and sampled rows."""
    kinds = [
        SamplingParams(),
        SamplingParams(0.8, top_k=30, seed=3),
        SamplingParams(1.1, top_p=0.9, seed=4, repetition_penalty=1.2),
        SamplingParams(0.0, frequency_penalty=1.0),
    ]
    logits = random_logits(1, 12)
    rows = [RowChoice(kinds[i // 3], 10 + i, 2, ids(range(10 + i))) for i in range(12)]
    alone = [choose(logits[i : i + 1], [rows[i]], with_confidences=True) for i in range(12)]
    assert choose(logits, rows).tokens == [one.tokens[0] for one in alone]
    for seed in range(5):
        order = torch.randperm(12, generator=torch.Generator().manual_seed(seed)).tolist()
        found = choose(logits[order], [rows[i] for i in order], with_confidences=True)
        assert found.tokens == [alone[i].tokens[0] for i in order]
        expected = [alone[i].confidences[0] for i in order]
        assert found.confidences == pytest.approx(expected, rel=1e-5)


def test_sessions_that_differ_in_their_seed_alone_keep_their_own_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "NOISE_CHUNK", 3 * VOCAB_SIZE)
    logits = random_logits(1, 8)
    logits[:] = logits[0]
    rows = [RowChoice(SamplingParams(1.5, top_k=50, seed=seed), 7) for seed in range(8)]
    alone = [choose(logits[i : i + 1], [rows[i]]).tokens[0] for i in range(8)]
    kept = logits.clone()
    assert choose(logits, rows).tokens == alone
    assert len(set(alone)) > 3
    assert torch.equal(logits, kept), "the logits were changed"


def test_confidence_under_greedy_is_the_raw_probability_of_the_choice() -> None:
    logits = random_logits(5, 3)
    raw = logits.softmax(-1)
    for params in (SamplingParams(), SamplingParams(logit_bias=((7, 30.0),))):
        rows = [RowChoice(params, i) for i in range(3)]
        choices = choose(logits, rows, with_confidences=True)
        for row, (token, confidence) in enumerate(
            zip(choices.tokens, choices.confidences, strict=True)
        ):
            assert confidence == pytest.approx(raw[row, token].item(), rel=1e-5)


def test_confidence_under_sampling_is_the_sigmoid_of_the_gap_of_perturbed_scores() -> None:
    logits = random_logits(6)
    params = SamplingParams(0.7, seed=11)
    choices = choose(logits, [RowChoice(params, 9)], with_confidences=True, with_gaps=True)
    scores = logits[0] / 0.7 + gumbel(11, [9], VOCAB_SIZE, CPU)[0]
    best, second = scores.topk(2).values.tolist()
    assert choices.tokens == [int(scores.argmax())]
    assert choices.gaps[0] == pytest.approx(best - second, rel=1e-4)
    assert choices.confidences[0] == pytest.approx(1 / (1 + math.exp(second - best)), rel=1e-4)


def test_the_only_token_left_is_chosen_with_full_confidence() -> None:
    only = RowChoice(SamplingParams(1.0, top_k=1), 1)
    choices = choose(random_logits(7), [only], with_confidences=True)
    assert choices.tokens == [int(random_logits(7).argmax())]
    assert choices.confidences == [1.0]


def test_gaps_are_those_of_the_two_best_scores() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.5]])
    choices = choose(logits, [RowChoice(SamplingParams(), 1)], with_gaps=True)
    assert choices.gaps == [1.5]


def test_log_probabilities_are_raw_and_best_first() -> None:
    logits = random_logits(8, 2)
    expected = logits.log_softmax(-1)
    found = logprobs_of(logits, ids([5, 9]), 3)
    for row, (token, (logprob, top)) in enumerate(zip((5, 9), found, strict=True)):
        assert logprob == pytest.approx(expected[row, token].item(), abs=1e-6)
        values, best = expected[row].topk(3)
        assert [token for token, _ in top] == best.tolist()
        assert [value for _, value in top] == pytest.approx(values.tolist(), abs=1e-6)


def test_more_alternatives_than_the_vocabulary_holds_are_all_of_them() -> None:
    [(_, top)] = logprobs_of(torch.zeros(1, 4), ids([1]), 20)
    assert len(top) == 4


@pytest.mark.parametrize(
    "params",
    [GREEDY, SamplingParams(1.0, seed=5), SamplingParams(0.8, top_k=4, seed=5)],
    ids=["greedy", "sampled", "top_k"],
)
def test_candidates_are_what_is_chosen_once_the_better_ones_are_banned(
    params: SamplingParams,
) -> None:
    logits_RV = torch.randn(3, 9, generator=torch.Generator().manual_seed(2))
    wishes = [RowChoice(params, 7, num_candidates=num) for num in (0, 2, 8)]
    found = choose(logits_RV, wishes, with_confidences=True)
    assert found.tokens == choose(logits_RV, [RowChoice(params, 7)] * 3).tokens
    num_allowed = params.top_k or 9
    assert [len(each) for each in found.candidates] == [0, 2, num_allowed - 1]
    for row in range(3):
        masked_1V = logits_RV[row : row + 1].clone()
        if params.top_k:
            kth = masked_1V.topk(params.top_k).values[:, -1:]
            masked_1V[masked_1V < kth] = -math.inf
        expected = []
        for _ in range(1 + len(found.candidates[row])):
            [best] = choose(masked_1V, [RowChoice(params, 7)]).tokens
            expected.append(best)
            masked_1V[0, best] = -math.inf
        assert expected == [found.tokens[row], *found.candidates[row]]


def test_candidates_of_equal_scores_leave_the_chosen_one_out() -> None:
    found = choose(torch.zeros(1, 5), [RowChoice(GREEDY, 1, num_candidates=2)])
    assert found.tokens == [0]
    assert len(set(found.candidates[0])) == 2
    assert 0 not in found.candidates[0]


def test_candidates_of_a_part_of_the_vocabulary_are_token_ids() -> None:
    subset = TokenSubset([3, 5, 8], 9, CPU)
    wish = RowChoice(GREEDY, 1, num_candidates=5)
    found = choose(torch.tensor([[1.0, 3.0, 2.0]]), [wish], subset=subset)
    assert (found.tokens, found.candidates) == ([5], [(8, 3)])


def test_nobody_who_asks_for_no_candidates_gets_any() -> None:
    assert choose(torch.zeros(1, 5), [RowChoice(GREEDY, 1)]).candidates == []
