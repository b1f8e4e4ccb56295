"""The tape of a text, read in one pass, predicts every round that a cell plays on that text."""

from dataclasses import replace

import pytest

from shared.model.layer_stack import LayerStack
from shared.model.sampling import RowChoice, choose
from shared.speculation.tape import Tape, TapeRound, rounds_of
from shared.speculation.vocabulary import KANGAROO, LAYERSKIP, Decision
from shortstack.bench.prompts import BenchPrompt
from shortstack.exits.reading import read_texts
from tests.engine_harness import EngineHarness, Recorded, make_request
from tests.golden.reference import GREEDY, TIE_GAP, ModelShelf, PlainPass, make_prompt
from tests.model_builder import NUM_LAYERS

NUM_NEW = 64


def read_tape(stack: LayerStack, prompt: list[int], method: str = LAYERSKIP) -> Tape:
    """Let the model continue a prompt, and read its text as `shortstack exits` does."""
    prompts = [BenchPrompt("p", "any", tuple(prompt))]
    [reading] = read_texts(stack, prompts, NUM_NEW, through_adapters=method == KANGAROO)
    assert reading.num_near_ties == 0
    return reading.tape


def play(stack: LayerStack, prompt: list[int], wished: Decision) -> Recorded:
    """Let a cell decode the same text."""
    stop_token_ids = stack.config.eos_token_ids
    with EngineHarness(stack) as cell:
        [recorded] = cell.run(
            make_request(prompt, NUM_NEW, wished=wished, stop_token_ids=stop_token_ids)
        )
    return recorded


def hangs_by_a_hair(
    stack: LayerStack, text: list[int], start: int, wished: Decision, each: TapeRound
) -> bool:
    """Say whether a near tie of the exit's own choice could change a round."""
    first = start + each.start - 1
    logits = PlainPass(stack, text).logits_of_exit(wished.exit_layer)
    window = logits[first : first + wished.max_draft_len]
    return min(choose(window, [RowChoice(GREEDY, 0)] * len(window), with_gaps=True).gaps) < TIE_GAP


@pytest.mark.parametrize("kind", ["llama", "llama3-rope", "qwen3"])
@pytest.mark.parametrize("exit_layer", range(1, NUM_LAYERS))
@pytest.mark.parametrize(("draft_len", "threshold"), [(1, 0.0), (4, 0.0), (7, 0.0), (6, 0.3)])
def test_the_accepted_length_of_every_round_is_on_the_tape(
    kind: str,
    exit_layer: int,
    draft_len: int,
    threshold: float,
    shelf: ModelShelf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stack, prompt = shelf.stack(kind), make_prompt(4, 6)
    # Without ends no wrong draft can be one, and the lengths of drafts are on the tape as well.
    monkeypatch.setattr(stack, "config", replace(stack.config, eos_token_ids=()))
    tape = read_tape(stack, prompt)
    wished = Decision(LAYERSKIP, exit_layer, draft_len, threshold)
    recorded = play(stack, prompt, wished)
    text, start = [*prompt, *recorded.token_ids], len(prompt) + 1
    assert len(text) == start + tape.num_tokens
    expected = list(rounds_of(tape, exit_layer, draft_len, threshold))
    # The first emission is the prefill's token.
    for found, each in zip(recorded.rounds[1:], expected, strict=True):
        if len(found.token_ids) != each.num_emitted:
            assert hangs_by_a_hair(stack, text, start, wished, each), each
            return
        if threshold == 0 or each.num_accepted == each.draft_len:
            assert found.draft_len == each.draft_len
    assert sum(each.num_accepted for each in expected) > 0 or exit_layer == 1


@pytest.mark.parametrize("exit_layer", range(1, NUM_LAYERS))
@pytest.mark.parametrize("draft_len", [3, 7])
def test_a_text_that_ends_by_itself_is_predicted_to_its_end(
    exit_layer: int, draft_len: int, shelf: ModelShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, prompt = shelf.stack("llama"), make_prompt(4, 6)
    whole = shelf.plain("llama", prompt, NUM_NEW).token_ids
    ends = (whole[NUM_NEW // 2],)
    monkeypatch.setattr(stack, "config", replace(stack.config, eos_token_ids=ends))
    tape = read_tape(stack, prompt)
    assert tape.num_unused > 0
    recorded = play(stack, prompt, Decision(LAYERSKIP, exit_layer, draft_len))
    assert [len(each.token_ids) for each in recorded.rounds[1:]] == [
        each.num_emitted for each in rounds_of(tape, exit_layer, draft_len)
    ]


@pytest.mark.parametrize("exit_layer", range(1, NUM_LAYERS))
@pytest.mark.parametrize(("draft_len", "threshold"), [(4, 0.0), (6, 0.6), (3, 1.01)])
def test_what_an_adapter_says_along_the_text_predicts_every_round_of_kangaroo(
    exit_layer: int,
    draft_len: int,
    threshold: float,
    shelf: ModelShelf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Teacher-forced in one pass, and drafted row by row: the same adapter."""
    stack, prompt = shelf.adapted("llama"), make_prompt(5, 6)
    monkeypatch.setattr(stack, "config", replace(stack.config, eos_token_ids=()))
    tape = read_tape(stack, prompt, KANGAROO)
    recorded = play(stack, prompt, Decision(KANGAROO, exit_layer, draft_len, threshold))
    expected = list(rounds_of(tape, exit_layer, draft_len, threshold))
    for found, each in zip(recorded.rounds[1:], expected, strict=True):
        assert len(found.token_ids) == each.num_emitted
        if threshold == 0 or each.num_accepted == each.draft_len:
            assert found.draft_len == each.draft_len
