"""Drafting from a part of the vocabulary: the head's rows, and choices as if the rest were -inf."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BadModel
from shared.ids import TokenId
from shared.model.layer_stack import Heads, LayerStack, load_stack
from shared.model.linear import SMALL_MATRIX_BYTES, Int8Linear, PackedLinear, make_draft_head
from shared.model.noise import gumbel
from shared.model.sampling import RowChoice, choose
from shared.model.token_subset import TokenSubset
from shared.speculation.draft_vocab import FILE_NAME, DraftVocab
from shared.speculation.vocabulary import SamplingParams
from tests.model_builder import EOS_ID, HIDDEN_SIZE, VOCAB_SIZE, write_model

CPU = torch.device("cpu")
TOKEN_IDS = (0, 1, EOS_ID, 11, 12, 40, 41, 42, 77, 98)


def make_vocab(token_ids: Sequence[int] = TOKEN_IDS) -> DraftVocab:
    return DraftVocab(VOCAB_SIZE, "", 0.9, ("made up",), tuple(token_ids))


def random_states(num_rows: int) -> torch.Tensor:
    return torch.randn(num_rows, HIDDEN_SIZE, generator=torch.Generator().manual_seed(3))


def spread(logits_RU: torch.Tensor, subset: TokenSubset) -> torch.Tensor:
    """Return the logits over all ids, -inf where there is no column."""
    logits_RV = torch.full((logits_RU.shape[0], VOCAB_SIZE), -math.inf)
    logits_RV[:, subset.ids_U] = logits_RU
    return logits_RV


# --- the head -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("heads", [Heads.DRAFT, Heads.BOTH])
def test_the_draft_head_is_the_rows_of_the_full_one(
    kind: str, heads: Heads, model_path: Callable[[str], Path]
) -> None:
    full = load_stack(model_path(kind), num_layers=1)
    stack = LayerStack(full.config, num_layers=1, heads=heads, draft_vocab=make_vocab())
    states = random_states(3)
    with torch.inference_mode():
        found, expected = stack.draft_head(states), full.head(states)
        assert found.shape == (3, len(TOKEN_IDS)) and found.dtype == torch.float32
        torch.testing.assert_close(found, expected[:, list(TOKEN_IDS)], atol=1e-5, rtol=1e-5)
        if heads is Heads.BOTH:
            assert torch.equal(stack.head(states), expected), "the target's head was touched"
    assert stack.draft_subset is not None and stack.draft_subset.token_ids == TOKEN_IDS


def test_who_verifies_takes_no_draft_vocabulary(model_path: Callable[[str], Path]) -> None:
    config = load_stack(model_path("llama"), num_layers=1).config
    stack = LayerStack(config, num_layers=1, heads=Heads.TARGET, draft_vocab=make_vocab())
    assert stack.draft_vocab is None and stack.draft_subset is None
    with torch.inference_mode():
        assert stack.draft_head(random_states(1)).shape == (1, VOCAB_SIZE)


def test_the_file_beside_a_model_is_used_unless_switched_off(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model", num_layers=2)
    assert load_stack(path).draft_vocab is None
    make_vocab().write(path)
    assert load_stack(path).draft_vocab == make_vocab()
    assert load_stack(path, draft_vocab="off").draft_vocab is None
    other = make_vocab((EOS_ID, 50)).write(tmp_path)
    assert load_stack(path, draft_vocab=str(other)).draft_vocab == make_vocab((EOS_ID, 50))
    (path / FILE_NAME).write_text("{")
    load_stack(path, heads=Heads.TARGET)
    with pytest.raises(BadModel, match="not JSON"):
        load_stack(path)


def test_rows_that_are_still_many_are_kept_in_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    num_rows = SMALL_MATRIX_BYTES // 4 // 64 + 64
    weight = torch.randn(2 * num_rows, 64, generator=torch.Generator().manual_seed(1))
    ids = torch.arange(0, 2 * num_rows, 2)
    x = torch.randn(2, 64, generator=torch.Generator().manual_seed(2))
    expected = x @ weight[ids].t()
    few = make_draft_head(weight, ids[:8])
    assert few is not None
    with torch.inference_mode():
        torch.testing.assert_close(few(x), expected[:, :8], atol=1e-4, rtol=1e-5)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    exact = make_draft_head(weight, ids)
    assert isinstance(exact, PackedLinear)
    with torch.inference_mode():
        torch.testing.assert_close(exact(x), expected, atol=1e-4, rtol=1e-5)
    monkeypatch.undo()
    if make_draft_head(weight) is None:
        pytest.skip("this CPU has no int8 instructions")
    rough = make_draft_head(weight, ids)
    assert isinstance(rough, Int8Linear)
    with torch.inference_mode():
        assert (rough(x) - expected).abs().max() < 0.05 * expected.abs().max()


# --- the choice -----------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    token_ids=st.sets(st.integers(0, VOCAB_SIZE - 1), min_size=2, max_size=VOCAB_SIZE),
    temperature=st.sampled_from((0.0, 0.4, 1.0, 1.7)),
    top_k=st.sampled_from((0, 1, 3, 40, VOCAB_SIZE + 9)),
    top_p=st.sampled_from((1.0, 0.9, 0.3)),
    min_p=st.sampled_from((0.0, 0.1)),
    repetition_penalty=st.sampled_from((1.0, 1.4, 0.7)),
    presence_penalty=st.sampled_from((0.0, 0.8)),
    frequency_penalty=st.sampled_from((0.0, 0.5)),
    bias=st.dictionaries(st.integers(0, VOCAB_SIZE - 1), st.sampled_from((-9.0, -1.0, 2.0, 9.0))),
    history=st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=30),
)
def test_choices_are_those_of_the_whole_vocabulary_with_all_others_at_minus_infinity(
    seed: int,
    token_ids: set[int],
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition_penalty: float,
    presence_penalty: float,
    frequency_penalty: float,
    bias: dict[int, float],
    history: list[int],
) -> None:
    params = SamplingParams(
        temperature,
        top_k,
        top_p,
        min_p,
        seed,
        repetition_penalty,
        presence_penalty,
        frequency_penalty,
        tuple(sorted(bias.items())),
    )
    subset = TokenSubset(sorted(token_ids), VOCAB_SIZE, CPU)
    generator = torch.Generator().manual_seed(seed)
    logits_RU = 3.0 * torch.randn(3, len(subset), generator=generator)
    tokens = [TokenId(token) for token in history]
    rows = [RowChoice(params, len(history) + i, len(history) // 2, tokens) for i in range(3)]
    before = logits_RU.clone()
    found = choose(logits_RU, rows, subset=subset, with_confidences=True)
    assert torch.equal(logits_RU, before), "the logits were changed"
    whole = choose(spread(logits_RU, subset), rows, with_confidences=True)
    assert found.tokens == whole.tokens
    assert found.confidences == pytest.approx(whole.confidences, rel=1e-4, abs=1e-6)
    assert set(found.tokens) <= token_ids


def test_noise_is_that_of_the_true_ids() -> None:
    subset = TokenSubset(TOKEN_IDS, VOCAB_SIZE, CPU)
    params = SamplingParams(1.0, seed=5)
    chosen = choose(torch.zeros(1, len(subset)), [RowChoice(params, 9)], subset=subset)
    noise = gumbel(5, [9], VOCAB_SIZE, CPU)[0]
    assert chosen.tokens == [max(TOKEN_IDS, key=lambda token: float(noise[token]))]


def test_ties_go_to_the_lowest_id_of_the_subset() -> None:
    subset = TokenSubset(TOKEN_IDS, VOCAB_SIZE, CPU)
    logits = torch.zeros(1, len(subset))
    logits[0, 4:] = 2.0
    for params in (SamplingParams(), SamplingParams(logit_bias=((1, 0.5), (3, 99.0)))):
        assert choose(logits, [RowChoice(params, 1)], subset=subset).tokens == [TOKEN_IDS[4]]


def test_confidence_under_greedy_is_the_probability_within_the_subset() -> None:
    subset = TokenSubset(TOKEN_IDS, VOCAB_SIZE, CPU)
    logits = torch.randn(2, len(subset), generator=torch.Generator().manual_seed(4))
    rows = [RowChoice(SamplingParams(), 1)] * 2
    choices = choose(logits, rows, subset=subset, with_confidences=True)
    assert choices.confidences == pytest.approx(logits.softmax(-1).amax(-1).tolist())


@pytest.mark.parametrize("temperature", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("warping", [{}, {"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.2}])
def test_a_request_that_rules_all_of_the_subset_out_gets_a_poor_draft_with_a_sound_confidence(
    temperature: float, warping: dict[str, float]
) -> None:
    subset = TokenSubset(TOKEN_IDS, VOCAB_SIZE, CPU)
    for bias in (-100.0, -3e38):
        banned = tuple((token, bias) for token in TOKEN_IDS)
        params = SamplingParams(temperature, seed=1, logit_bias=banned, **warping)  # type: ignore[arg-type]
        logits = torch.randn(2, len(subset), generator=torch.Generator().manual_seed(4))
        rows = [RowChoice(params, 3), RowChoice(params, 4)]
        choices = choose(logits, rows, subset=subset, with_confidences=True)
        assert set(choices.tokens) <= set(TOKEN_IDS)
        assert all(0 <= confidence <= 1 for confidence in choices.confidences)
