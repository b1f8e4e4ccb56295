"""Drafts that stop by their chance: the text is plain decoding's, whatever the heads say.

What a draft told of its choices is what a shadow read tells of the same exit at the same place, so
that settings found on a tape are what drafts will meet.
"""

from dataclasses import replace

import pytest

from services.verify.session import SessionRequest
from shared.model.config import ModelConfig
from shared.model.exit_reader import ExitReader
from shared.model.layer_stack import LayerStack
from tests.engine_harness import EngineHarness, FusedDrafter, split_with
from tests.golden.draft_sides import SAMPLINGS, DraftSides, make_requests, run_summed
from tests.golden.pairwise import pairwise
from tests.golden.reference import GREEDY, ModelShelf, TieCount
from tests.golden.watched_cell import evidence_of, watch
from tests.head_builder import make_heads
from tests.model_builder import EOS_ID, NUM_LAYERS

THRESHOLD = 0.5
EXITS = tuple(range(1, NUM_LAYERS))
# All exits have one; some have, the others go by their gaps; none has.
HEADS = {"all": EXITS, "some": (2,), "none": ()}


def make_stack(config: ModelConfig, name: str, num_layers: int) -> LayerStack:
    """Load a stack with random heads."""
    heads = make_heads(config, HEADS[name]) if HEADS[name] else None
    return LayerStack(config, num_layers=num_layers, acceptance_heads=heads)


@pytest.fixture(scope="module")
def headed(shelf: ModelShelf) -> DraftSides:
    return DraftSides(shelf, make_stack)


def by_chance(mode: str, exit_layer: int, threshold: float = THRESHOLD) -> list[SessionRequest]:
    requests = make_requests(SAMPLINGS[mode], exit_layer, threshold)
    return [replace(each, wished=replace(each.wished, by_chance=True)) for each in requests]


@pytest.mark.parametrize(
    ("kind", "mode", "name", "is_split"),
    pairwise(("llama", "qwen3"), list(SAMPLINGS), list(HEADS), (False, True)),
)
def test_text_equals_plain_text(
    kind: str,
    mode: str,
    name: str,
    is_split: bool,
    headed: DraftSides,
    shelf: ModelShelf,
    ties: TieCount,
) -> None:
    stack, make_drafter = headed.stack(kind, name), FusedDrafter
    if is_split:
        make_drafter = split_with(headed.stack(kind, name, num_layers=1))
    requests = by_chance(mode, 2)
    with EngineHarness(stack, make_drafter) as cell:
        found = cell.run(*requests)
    for recorded, request in zip(found, requests, strict=True):
        plain = shelf.plain(kind, request.token_ids, 26, SAMPLINGS[mode], [EOS_ID])
        label = f"{kind}-{name}-{mode}"
        ties.compare(recorded.token_ids, plain.token_ids, plain.gaps, label)
        assert recorded.reason == plain.finish_reason
        assert recorded.summary.num_drafts > 0 or len(recorded.token_ids) <= 2


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("is_split", [False, True], ids=["fused", "split"])
@pytest.mark.parametrize("mode", ["greedy", "sampled"])
def test_drafts_and_shadow_reads_tell_the_same_chances(
    mode: str, is_split: bool, name: str, headed: DraftSides
) -> None:
    """At every place what the round told is what a pass over the finished text tells."""
    stack, make_drafter = headed.stack("llama", name), FusedDrafter
    if is_split:
        make_drafter = split_with(headed.stack("llama", name, num_layers=1))
    requests = by_chance(mode, 2, threshold=0.01)
    with watch(EngineHarness(stack, make_drafter), lambda _: EXITS) as cell:
        found = cell.run(*requests)
    num_compared = 0
    for recorded, request in zip(found, requests, strict=True):
        prompt_len = len(request.token_ids)
        text = [*request.token_ids, *recorded.token_ids]
        told = ExitReader(stack, len(text)).read(text, 1, SAMPLINGS[mode], prompt_len)
        for position, reads in evidence_of(recorded).items():
            for exit_layer, read in reads.items():
                assert read.confidence == pytest.approx(
                    told[exit_layer].chances[position - 1], abs=2e-3
                )
                num_compared += 1
    assert num_compared > 100


def test_heads_change_nothing_where_nobody_asks_for_chances(
    shelf: ModelShelf, headed: DraftSides
) -> None:
    raw = run_summed(shelf.stack("llama"), GREEDY)
    assert run_summed(headed.stack("llama", "all"), GREEDY) == raw
