"""Drafting from a part of the vocabulary: the text is that of plain decoding, whatever the part."""

import random

import pytest

from services.verify.session import SessionRequest
from shared.model.layer_stack import LayerStack
from shared.speculation.draft_vocab import DraftVocab
from shared.speculation.vocabulary import LAYERSKIP, Decision, SamplingParams, SpeculationSummary
from tests.engine_harness import EngineHarness, FusedDrafter, make_request, split_with
from tests.golden.reference import GREEDY, ModelShelf, TieCount, make_prompt, sampled
from tests.model_builder import EOS_ID, NUM_LAYERS, VOCAB_SIZE

KINDS = ("llama", "qwen3")
NUM_NEW = 26
PENALISED = SamplingParams(repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.2)
SAMPLINGS = {"greedy": GREEDY, "penalised": PENALISED, "sampled": sampled(4)}
ALL_IDS = tuple(range(VOCAB_SIZE))
# Of 99 tokens: a third, and three of which two are next to never wanted.
SUBSETS = {
    "third": tuple(sorted({EOS_ID, 7, 11, *random.Random(1).sample(ALL_IDS, 30)})),
    "few": (0, 1, EOS_ID),
    "all": ALL_IDS,
}


class Shelf:
    """Stacks that draft from a part of the vocabulary; loaded once each."""

    def __init__(self, models: ModelShelf) -> None:
        self._models = models
        self._stacks: dict[tuple[str, str, int], LayerStack] = {}

    def stack(self, kind: str, subset: str, num_layers: int = NUM_LAYERS) -> LayerStack:
        """Return a stack with both heads; `num_layers` are loaded at first."""
        key = (kind, subset, num_layers)
        if key not in self._stacks:
            vocab = DraftVocab(VOCAB_SIZE, "", 1.0, ("made up",), SUBSETS[subset])
            config = self._models.stack(kind).config
            self._stacks[key] = LayerStack(config, num_layers=num_layers, draft_vocab=vocab)
        return self._stacks[key]


@pytest.fixture(scope="module")
def vocab_shelf(shelf: ModelShelf) -> Shelf:
    return Shelf(shelf)


def make_requests(
    sampling: SamplingParams, exit_layer: int = 2, threshold: float = 0.0
) -> list[SessionRequest]:
    """Return two sessions that draft side by side, at different depths."""
    exits = [exit_layer, 1 + exit_layer % (NUM_LAYERS - 1)]
    return [
        make_request(
            make_prompt(index, 6 + 5 * index),
            NUM_NEW,
            session_id=f"ses-{index}",
            wished=Decision(LAYERSKIP, exits[index], 4, threshold),
            sampling=sampling,
            stop_token_ids=[EOS_ID],
        )
        for index in range(2)
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", SAMPLINGS)
@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize("is_split", [False, True], ids=["fused", "split"])
def test_speculative_text_equals_plain_text(
    kind: str,
    mode: str,
    subset: str,
    is_split: bool,
    shelf: ModelShelf,
    vocab_shelf: Shelf,
    ties: TieCount,
) -> None:
    sampling = SAMPLINGS[mode]
    if is_split:
        stack = shelf.stack(kind)
        make_drafter = split_with(vocab_shelf.stack(kind, subset, num_layers=1))
    else:
        stack, make_drafter = vocab_shelf.stack(kind, subset), FusedDrafter
    for exit_layer in range(1, NUM_LAYERS):
        requests = make_requests(sampling, exit_layer)
        with EngineHarness(stack, make_drafter) as cell:
            found = cell.run(*requests)
        for recorded, request in zip(found, requests, strict=True):
            plain = shelf.plain(kind, request.token_ids, NUM_NEW, sampling, [EOS_ID])
            label = f"{kind}-E{exit_layer}-{subset}-{mode}"
            ties.compare(recorded.token_ids, plain.token_ids, plain.gaps, label)
            assert recorded.reason == plain.finish_reason
            assert recorded.summary.num_drafts > 0 or len(recorded.token_ids) <= 2


def run_summed(stack: LayerStack, sampling: SamplingParams) -> SpeculationSummary:
    """Return what speculation did over the sessions of a fused cell."""
    total = SpeculationSummary()
    with EngineHarness(stack) as cell:
        for recorded in cell.run(*make_requests(sampling)):
            total.add(recorded.summary)
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", SAMPLINGS)
def test_the_whole_vocabulary_is_accepted_as_often_as_without_one(
    kind: str, mode: str, shelf: ModelShelf, vocab_shelf: Shelf
) -> None:
    expected = run_summed(shelf.stack(kind), SAMPLINGS[mode])
    assert run_summed(vocab_shelf.stack(kind, "all"), SAMPLINGS[mode]) == expected
    assert expected.num_accepted_tokens > 0, "nothing to compare"


def test_tokens_that_cannot_be_drafted_cost_acceptance(
    shelf: ModelShelf, vocab_shelf: Shelf
) -> None:
    accepted = [
        run_summed(vocab_shelf.stack("llama", subset), GREEDY).num_accepted_tokens
        for subset in ("few", "all")
    ]
    assert accepted[0] < accepted[1]


@pytest.mark.parametrize("threshold", [0.0, 0.5])
@pytest.mark.parametrize("temperature", [0.0, 0.1, 1.0])
def test_a_request_that_bans_all_that_can_be_drafted_is_served_all_the_same(
    temperature: float, threshold: float, shelf: ModelShelf, vocab_shelf: Shelf
) -> None:
    banned = tuple((token, -3e38) for token in SUBSETS["third"] if token != EOS_ID)
    sampling = SamplingParams(temperature, seed=3, logit_bias=((EOS_ID, -3e38), *banned))
    requests = make_requests(sampling, threshold=threshold)
    draft_stack = vocab_shelf.stack("llama", "third", num_layers=1)
    for make_drafter in (FusedDrafter, split_with(draft_stack)):
        with EngineHarness(vocab_shelf.stack("llama", "third"), make_drafter) as cell:
            found = cell.run(*requests)
        for recorded, request in zip(found, requests, strict=True):
            plain = shelf.plain("llama", request.token_ids, NUM_NEW, sampling, [EOS_ID])
            assert recorded.token_ids == plain.token_ids
            assert recorded.summary.num_drafts > 0
            assert recorded.summary.num_accepted_tokens == 0
