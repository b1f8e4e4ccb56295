"""Many sessions in too little memory, in a split cell that runs for real: texts are plain texts."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from services.verify.events import Wake
from services.verify.session import Emitted, Session
from shared.speculation.vocabulary import FinishReason
from tests.engine_harness import EngineHarness, Recorded, split_with
from tests.golden.reference import ModelShelf, TieCount
from tests.golden.stepped_cell import KIND, tight_options
from tests.golden.traffic import TextCheck, random_arrival, request_of
from tests.polling import poll_until


@pytest.mark.parametrize("overlap", [False, True], ids=["one batch", "overlap"])
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_split_cell_under_pressure_gives_plain_texts(
    seed: int, overlap: bool, shelf: ModelShelf, ties: TieCount
) -> None:
    draw = random.Random(seed)
    check = TextCheck(shelf, KIND, ties)
    options = tight_options(4 if seed % 2 else 2, overlap, sheds=seed == 2, sharing="all")
    # Timeouts as in life: nobody stalls here.
    options = replace(options, round_timeout_ms=10_000, max_waiting=16)
    requests = [request_of(random_arrival(draw), index, ()) for index in range(12)]
    given_up = set(draw.sample(range(12), 3))
    opened: list[Recorded] = []
    paused: set[int] = set()

    def observe(session: Session, emitted: Emitted) -> None:
        """On the engine's thread: now and then a client gives up, stops reading, or reads on."""
        event = draw.randrange(6)
        index = draw.randrange(12)
        if event == 0 and index in given_up and index < len(opened):
            cell.cancel(opened[index])
        if event == 1:
            paused.add(index)
        if event == 2:
            paused.clear()

    def unread_of(index: int) -> Callable[[], int]:
        return lambda: 1 << 30 if index in paused else 0

    make_drafter = split_with(shelf.draft_stack(KIND))
    with EngineHarness(shelf.stack(KIND), make_drafter, options, observer=observe) as cell:
        opened += [cell.open(each, unread_of(index)) for index, each in enumerate(requests)]

        def is_over() -> bool:
            """Whether all have ended; paused ones are let go on meanwhile."""
            paused.clear()
            cell.engine.post(Wake())
            return len(cell.engine.roster) == 0 or bool(cell.failures)

        await asyncio.to_thread(opened[0].done.wait, 20)
        await poll_until(is_over, timeout_s=30)
        assert not cell.failures
    for index, (request, recorded) in enumerate(zip(requests, opened, strict=True)):
        check(request, recorded)
        if not recorded.done.is_set() or recorded.reason is FinishReason.CANCELLED:
            assert index in given_up
    assert cell.memory.num_prefix_tokens_hit > 0
