"""A cell without a thread: the test itself says when the engine takes a step."""

import pickle
import random
from collections.abc import Iterable
from pathlib import Path

import torch

from services.verify.events import Wake
from services.verify.pages import pool_state
from shared.control.overlap import OverlapChooser
from shared.model.layer_stack import LayerStack
from shared.speculation.vocabulary import Extent
from tests.engine_harness import EngineHarness, HarnessOptions
from tests.golden.moody_drafter import MoodyDrafter

KIND = "llama"
# Positions of the pool: one session of the longest kind fits, and hardly anybody else.
NUM_POSITIONS = 56


def tight_options(
    page_size: int, overlap: bool, sheds: bool, sharing: str, chunk_len: int = 16
) -> HarnessOptions:
    """Return the options of a cell with too little memory for its sessions."""
    return HarnessOptions(
        page_size=page_size,
        num_pages=NUM_POSITIONS // page_size,
        max_sessions=5,
        prefill_chunk_len=chunk_len,
        max_unread=64,
        round_timeout_ms=1,
        prefix_sharing=sharing,  # type: ignore[arg-type]
        sheds=sheds,
        overlap=overlap,
    )


class ChangingOverlap(OverlapChooser):
    """Overlaps for some steps, then for some not, as trials do; drawn by a seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._draw = random.Random(seed)
        self._is_overlapped = False

    def choose(self, num_drafting: int) -> bool:
        """Change now and then."""
        self._is_overlapped ^= self._draw.random() < 0.4
        return self._is_overlapped

    def note(self, num_emitted: int, elapsed_ns: int, *, has_prefill: bool) -> None:
        """Learn nothing."""


class SteppedCell(EngineHarness):
    """A fused cell with a moody drafter, driven from the test's own thread.

    changes: whether overlap changes all the time, whatever the options say.
    """

    drafter: MoodyDrafter

    def __init__(
        self, stack: LayerStack, options: HarnessOptions, folder: Path, *, changes: bool = False
    ) -> None:
        super().__init__(stack, lambda cell, inbox: MoodyDrafter(cell, inbox, folder), options)
        self.max_sessions = options.max_sessions
        if changes:
            self.engine._overlap = ChangingOverlap(options.page_size)

    def __enter__(self) -> "SteppedCell":
        self.engine.rounds = self.rounds
        self.drafter.attach()
        return self

    def __exit__(self, *_: object) -> None:
        self.drafter.close()
        self.pool.close()

    def step(self) -> None:
        """Take one step of the loop; the accounts must agree behind it."""
        # With something in the inbox the engine does not wait for anything.
        self.engine.post(Wake())
        with torch.inference_mode():
            self.engine._step()
        self.memory.check_integrity(self.roster.running)
        state = pool_state(self.memory)
        assert min(state.values()) >= 0, state
        parts = ("num_free", "num_used", "num_quarantined", "num_cached")
        assert state["num_pages"] == sum(state[name] for name in parts)

    def check_idle(self) -> None:
        """Check that idle memory holds the prefix cache and nothing else, and that it can go."""
        memory, allocator = self.memory, self.memory.allocator
        assert not len(self.roster)
        assert not self.rounds._in_flight and not self.rounds._drafts
        # It may know those of its last plan, no more.
        governor = pickle.dumps(self.engine.steps.governor)
        ids = [each.session.session_id for each in self._recorded.values()]
        num_remembered = sum(each.encode() in governor for each in ids)
        assert num_remembered <= self.max_sessions, "sessions that ended are remembered"
        assert allocator.num_quarantined == 0
        assert allocator.num_used == len(memory.prefixes) == memory.num_cached
        evicted = memory.prefixes.evict(allocator.num_pages, allocator.is_shared)
        allocator.release(Extent(page, 1) for page in evicted)
        assert allocator.num_free == allocator.num_pages
        assert not allocator._promises, "promises to sessions that ended"
        memory.check_integrity([])

    def cached_texts(self) -> Iterable[tuple[list[int], list[int]]]:
        """Iterate over the longest known beginnings: tokens, and the pages that hold their KV."""
        for node in list(self.memory.prefixes._nodes.values()):
            if node.children:
                continue
            tokens: list[int] = []
            pages: list[int] = []
            upward = node
            while upward.parent is not None:
                tokens[:0], pages[:0] = upward.tokens, [upward.page]
                upward = upward.parent
            yield tokens, pages
