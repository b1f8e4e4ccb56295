"""Cheap drills against a real stack keep their promises; whatever is broken is mended again."""

from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from shortstack.drill.answers import KnownAnswer
from shortstack.drill.faults import choose_faults
from shortstack.drill.holdings import Holdings, held_now
from shortstack.drill.plan import plan_strikes
from shortstack.drill.run import judge_deviations, prepare, run_drill
from shortstack.drill.stand import Stand, open_stand
from shortstack.plan import StackConfig

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

NUM_CLIENTS, SEED, DURATION_S = 3, 3, 0.7


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def drilled(
    config: StackConfig,
) -> AsyncIterator[tuple[Stand, Sequence[KnownAnswer], Holdings]]:
    """A stack of one cell, what it must answer, and what it holds when it is idle."""
    async with open_stand(config, NUM_CLIENTS, lambda name, event: None) as stand:
        answers = await prepare(stand, SEED)
        yield stand, answers, held_now(stand.stack)


@pytest.mark.parametrize("name", ["draft-stopped", "pair-cut", "client-cut", "draft-malformed"])
async def test_a_drill_keeps_its_promises(
    name: str, drilled: tuple[Stand, Sequence[KnownAnswer], Holdings]
) -> None:
    stand, answers, before = drilled
    strike = plan_strikes(choose_faults([name]), SEED, 1, DURATION_S)[0]
    drill = await run_drill(stand, strike, answers, before)
    drill = judge_deviations(drill, stand.stack.config.model)
    assert drill.broken() == []
    assert drill.tally.num_requests > 0
