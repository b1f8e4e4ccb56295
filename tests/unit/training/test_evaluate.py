"""Scores of the exits, against counts made one position at a time."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.model_builder import make_config
from training.evaluate import ExitScores, score_exits
from training.models import start_as_identity
from training.rows import IGNORED, Row

NUM_LAYERS, VOCAB_SIZE = 4, 40


@pytest.fixture
def model() -> Any:
    torch.manual_seed(2)
    config = make_config("llama", NUM_LAYERS, vocab_size=VOCAB_SIZE, hidden_size=32)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(6)
    return model


@pytest.fixture
def rows() -> list[Row]:
    """Eleven rows, more than a batch; some tokens are not learnt."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, VOCAB_SIZE, (11, 14), generator=generator)
    labels = ids[:, 1:].clone()
    labels[::3, :5] = IGNORED
    return [{"input_ids": i[:-1], "labels": j} for i, j in zip(ids, labels, strict=True)]


def choices(model: Any, row: Row, exit_layer: int) -> torch.Tensor:
    """Log probabilities [T, V] of an exit, from transformers' own hidden states."""
    with torch.no_grad():
        found = model(row["input_ids"][None], output_hidden_states=True)
        if exit_layer == NUM_LAYERS:
            return found.logits[0].log_softmax(-1)
        state = model.model.norm(found.hidden_states[exit_layer])
        return model.lm_head(state)[0].log_softmax(-1)


def test_agreement_and_losses_are_those_counted_by_hand(model: Any, rows: list[Row]) -> None:
    scores = score_exits(model, rows, is_task=False)
    hits, losses, num_right, num_tokens = [0] * NUM_LAYERS, [0.0] * NUM_LAYERS, 0, 0
    for row in rows:
        by_exit = [choices(model, row, exit_layer) for exit_layer in range(1, NUM_LAYERS + 1)]
        for place, label in enumerate(row["labels"].tolist()):
            if label == IGNORED:
                continue
            picks = [int(found[place].argmax()) for found in by_exit]
            num_tokens += 1
            num_right += picks[-1] == label
            for index, found in enumerate(by_exit):
                hits[index] += picks[index] == picks[-1]
                losses[index] -= float(found[place, label])
    assert scores.num_tokens == num_tokens == 11 * 13 - 4 * 5
    assert scores.agreement == [hit / num_tokens for hit in hits]
    assert 0 < scores.agreement[0] < scores.agreement[-1] == 1
    assert scores.cross_entropy == pytest.approx([loss / num_tokens for loss in losses], rel=1e-5)
    assert scores.token_accuracy == num_right / num_tokens
    assert scores.exact_match is None


def test_the_last_exit_agrees_with_itself_under_sampling_too(model: Any, rows: list[Row]) -> None:
    scores = score_exits(model, rows, is_task=False)
    assert scores.sampled_agreement[-1] == 1
    assert all(0 < agreement < 1 for agreement in scores.sampled_agreement[:-1])


@pytest.mark.parametrize("head_rows", [1, 9, 4096])
def test_the_chunks_of_the_head_change_no_count(
    model: Any, rows: list[Row], head_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = score_exits(model, rows, is_task=True)
    monkeypatch.setattr("training.evaluate.HEAD_ROWS", head_rows)
    found = score_exits(model, rows, is_task=True)
    assert found.agreement == expected.agreement
    assert found.cross_entropy == pytest.approx(expected.cross_entropy)
    assert (found.token_accuracy, found.num_tokens) == (
        expected.token_accuracy,
        expected.num_tokens,
    )


def test_every_chunk_has_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    unseen = torch.Generator.manual_seed

    class Noted(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            seeds.append(seed)
            return unseen(self, seed)

    monkeypatch.setattr("training.evaluate.torch.Generator", Noted)
    monkeypatch.setattr("training.evaluate.HEAD_ROWS", 5)
    config = make_config("llama", 2, vocab_size=VOCAB_SIZE)
    row = {"input_ids": torch.arange(12), "labels": torch.arange(12)}
    score_exits(AutoModelForCausalLM.from_config(config), [row] * 10, is_task=False)
    assert len(seeds) == len(set(seeds)) == 20 + 5


def test_layers_that_add_nothing_agree_fully(model: Any, rows: list[Row]) -> None:
    start_as_identity(model, 3)
    scores = score_exits(model, rows, is_task=False)
    assert scores.agreement[2:] == scores.sampled_agreement[2:] == [1, 1]
    assert scores.agreement[1] < 1


def test_a_row_matches_exactly_when_all_its_learnt_tokens_are_chosen(
    model: Any, rows: list[Row]
) -> None:
    told = [row | {"labels": choices(model, row, NUM_LAYERS).argmax(-1)} for row in rows]
    for row in told:
        row["labels"][:4] = IGNORED
    told[3]["labels"][9] = (told[3]["labels"][9] + 1) % VOCAB_SIZE
    told[10]["labels"][4] = (told[10]["labels"][4] + 1) % VOCAB_SIZE
    scores = score_exits(model, told, is_task=True)
    assert scores.exact_match == pytest.approx(9 / 11)
    assert scores.token_accuracy == pytest.approx(1 - 2 / (11 * 9))


def test_fewer_layers_are_scored_where_the_model_is_still_shallow(
    model: Any, rows: list[Row]
) -> None:
    scores = score_exits(model, rows, is_task=False, num_layers=2)
    assert len(scores.agreement) == 2
    assert scores.agreement[-1] == 1


def test_scoring_leaves_the_mode_of_the_model_as_it_was(model: Any, rows: list[Row]) -> None:
    for mode in (True, False):
        model.train(mode)
        assert isinstance(score_exits(model, rows, is_task=False), ExitScores)
        assert model.training is mode
