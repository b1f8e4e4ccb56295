"""Drafting from a part of the vocabulary: the text is that of plain decoding, whatever the part."""

import random

import pytest

from shared.model.config import ModelConfig
from shared.model.layer_stack import LayerStack
from shared.speculation.draft_vocab import DraftVocab
from shared.speculation.vocabulary import SamplingParams
from tests.engine_harness import EngineHarness, FusedDrafter, split_with
from tests.golden.draft_sides import NUM_NEW, SAMPLINGS, DraftSides, make_requests, run_summed
from tests.golden.pairwise import pairwise
from tests.golden.reference import GREEDY, ModelShelf, TieCount
from tests.model_builder import EOS_ID, VOCAB_SIZE

KINDS = ("llama", "qwen3")
SPLITS = (False, True)
ALL_IDS = tuple(range(VOCAB_SIZE))
# Of 99 tokens: a third, and three of which two are next to never wanted.
SUBSETS = {
    "third": tuple(sorted({EOS_ID, 7, 11, *random.Random(1).sample(ALL_IDS, 30)})),
    "few": (0, 1, EOS_ID),
    "all": ALL_IDS,
}


def make_stack(config: ModelConfig, subset: str, num_layers: int) -> LayerStack:
    """Load a stack that drafts from one of the subsets."""
    vocab = DraftVocab(VOCAB_SIZE, "", 1.0, ("made up",), SUBSETS[subset])
    return LayerStack(config, num_layers=num_layers, draft_vocab=vocab)


@pytest.fixture(scope="module")
def vocab_shelf(shelf: ModelShelf) -> DraftSides:
    return DraftSides(shelf, make_stack)


@pytest.mark.parametrize(
    ("kind", "mode", "subset", "is_split"), pairwise(KINDS, list(SAMPLINGS), list(SUBSETS), SPLITS)
)
def test_speculative_text_equals_plain_text(
    kind: str,
    mode: str,
    subset: str,
    is_split: bool,
    vocab_shelf: DraftSides,
    ties: TieCount,
) -> None:
    vocab_shelf.compare_with_plain(kind, mode, subset, is_split, ties)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", SAMPLINGS)
def test_the_whole_vocabulary_is_accepted_as_often_as_without_one(
    kind: str, mode: str, shelf: ModelShelf, vocab_shelf: DraftSides
) -> None:
    expected = run_summed(shelf.stack(kind), SAMPLINGS[mode])
    assert run_summed(vocab_shelf.stack(kind, "all"), SAMPLINGS[mode]) == expected
    assert expected.num_accepted_tokens > 0, "nothing to compare"


def test_tokens_that_cannot_be_drafted_cost_acceptance(
    shelf: ModelShelf, vocab_shelf: DraftSides
) -> None:
    accepted = [
        run_summed(vocab_shelf.stack("llama", subset), GREEDY).num_accepted_tokens
        for subset in ("few", "all")
    ]
    assert accepted[0] < accepted[1]


@pytest.mark.parametrize("threshold", [0.0, 0.5])
@pytest.mark.parametrize("temperature", [0.0, 0.1, 1.0])
def test_a_request_that_bans_all_that_can_be_drafted_is_served_all_the_same(
    temperature: float, threshold: float, shelf: ModelShelf, vocab_shelf: DraftSides
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
