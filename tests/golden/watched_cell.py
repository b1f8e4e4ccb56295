"""Cells whose rounds read exits as evidence, and what an exit truly says along a text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from services.verify.session import Session
from shared.control.evidence.observation import Read
from shared.ids import SessionId, TokenId
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import LayerStack
from shared.model.page_table import PageTable
from shared.model.plain import PAGE_SIZE, pool_layout
from shared.model.rows import SessionRows, pack_rows
from shared.model.sampling import Choices, RowChoice, choose
from shared.model.segment import LocalSegment
from shared.speculation.vocabulary import Extent, SamplingParams
from tests.engine_harness import EngineHarness, Recorded

# Exits to be read in the session's next round; None: not even its own behind the draft.
Watch = Callable[[Session], Sequence[int] | None]

Evidence = dict[int, dict[int, Read]]
"""By position of the text and by exit."""


def watch(cell: EngineHarness, exits_of: Watch) -> EngineHarness:
    """Let a cell that does not run yet read exits in its rounds."""
    make_plan = cell.engine._plan

    def plan_and_watch() -> object:
        plan = make_plan()
        shadow: dict[SessionId, tuple[int, ...]] = {}
        for session, _ in plan.decoding:
            exits = exits_of(session)
            if exits is not None:
                shadow[session.session_id] = tuple(exits)
        return replace(plan, shadow=shadow)

    cell.engine._plan = plan_and_watch  # type: ignore[method-assign, assignment]
    return cell


def evidence_of(recorded: Recorded) -> Evidence:
    """Return what a session's rounds said of the positions behind its prompt."""
    evidence: Evidence = {}
    position = len(recorded.session.request.token_ids)
    for each in recorded.rounds:
        observation = each.observation
        assert observation is not None
        assert observation.num_positions == len(each.token_ids)
        for index in range(observation.num_positions):
            evidence[position + index] = {
                exit_layer: read
                for exit_layer, reads in observation.reads.items()
                if (read := reads[index]) is not None
            }
        position += observation.num_positions
    return evidence


@dataclass(frozen=True)
class Truth:
    """The choices of one exit along a text; entry i fills position i + 1."""

    text: Sequence[int]
    choices: Choices

    def is_match(self, position: int) -> bool:
        """Say whether the exit chose what the text has there."""
        return self.choices.tokens[position - 1] == self.text[position]

    def confidence(self, position: int) -> float:
        """Return the confidence of the choice for a position."""
        return self.choices.confidences[position - 1]

    def gap(self, position: int) -> float:
        """Return by how much the best score leads there."""
        return self.choices.gaps[position - 1]


def read_truth(
    stack: LayerStack, text: Sequence[int], prompt_len: int, sampling: SamplingParams
) -> dict[int, Truth]:
    """Return what every exit chooses along a text, as one pass over it says."""
    layout = pool_layout(stack, len(text), PAGE_SIZE)
    pool = KVPool(LocalSegment(layout.size_bytes, stack.device), layout)
    table = PageTable([Extent(0, layout.num_pages)], PAGE_SIZE)
    ids = [TokenId(token) for token in text]
    batch = pack_rows([SessionRows(table, list(ids), 0)], stack.rope_table_P1C)
    rows = [
        RowChoice(sampling, position, prompt_len, ids[:position])
        for position in range(1, len(ids) + 1)
    ]
    found = {}
    with torch.inference_mode():
        x_RD = stack.embed(batch)
        for layer in range(stack.config.num_layers - 1):
            x_RD = stack.run(x_RD, layer, layer + 1, batch, pool.layers)
            logits = stack.draft_head(stack.adapt(x_RD, [layer + 1] * len(rows)))
            choices = choose(
                logits, rows, subset=stack.draft_subset, with_confidences=True, with_gaps=True
            )
            found[layer + 1] = Truth(text, choices)
    pool.close()
    return found
