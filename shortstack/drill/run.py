"""One drill after the other: load, strike, recovery, and what is left.

Drills that need a clock of their own run on a stack of their own, as its processes must load it.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from shared.telemetry.machine import describe_machine
from shortstack.bench.open_bench import Watcher
from shortstack.drill.answers import KnownAnswer, is_near_tie, learn_answers, make_requests
from shortstack.drill.clock import clock_environ, library_files, remove_left_behind
from shortstack.drill.errors import CannotRun
from shortstack.drill.faults import MAX_RECOVERY_S
from shortstack.drill.holdings import Holdings, held_now, leaks_since
from shortstack.drill.load import Load
from shortstack.drill.plan import Strike
from shortstack.drill.stand import POLL_S, Stand, open_stand
from shortstack.drill.strikes import STRIKES, Seen
from shortstack.drill.verdict import Conditions, Drill, DrillReport
from shortstack.errors import CommandError
from shortstack.plan import StackConfig

UNDER_WAY_TIMEOUT_S = 60.0
# How much longer than is allowed a recovery is waited for, so that its time can be told.
RECOVERY_TIMEOUT_S = 6 * MAX_RECOVERY_S
LOG_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class DrillPlan:
    """What is to be run, on which stack, under how many clients."""

    config: StackConfig
    strikes: Sequence[Strike]
    num_clients: int
    seed: int
    duration_s: float

    @property
    def conditions(self) -> Conditions:
        """What reports say of it."""
        config = self.config
        return Conditions(
            config.model.resolve().name,
            config.num_cells,
            self.num_clients,
            config.num_threads or 0,
            self.seed,
            self.duration_s,
        )


async def run_drills(plan: DrillPlan, watcher: Watcher) -> DrillReport:
    """Run all drills.

    Raises:
        CommandError: the stack did not come up, or did not come back after a drill.
    """
    machine = describe_machine()
    usual = [each for each in plan.strikes if not each.fault.needs_clock]
    timed = [each for each in plan.strikes if each.fault.needs_clock]
    drills = await _run_on_a_stack(plan, usual, watcher) if usual else []
    if timed:
        drills += await _run_with_clock(plan, timed, watcher)
    watcher.on_stage("comparing what differs")
    judged = [judge_deviations(drill, plan.config.model) for drill in drills]
    return DrillReport(machine, plan.conditions, judged)


async def _run_with_clock(
    plan: DrillPlan, strikes: Sequence[Strike], watcher: Watcher
) -> list[Drill]:
    with TemporaryDirectory(prefix="shortstack-clock-") as folder:
        try:
            environ = clock_environ(Path(folder))
        except CannotRun as error:
            return [_skipped(each, plan, error) for each in strikes]
        config = replace(plan.config, environ=dict(plan.config.environ) | environ)
        before = library_files()
        try:
            return await _run_on_a_stack(replace(plan, config=config), strikes, watcher)
        finally:
            remove_left_behind(before)


async def _run_on_a_stack(
    plan: DrillPlan, strikes: Sequence[Strike], watcher: Watcher
) -> list[Drill]:
    watcher.on_stage("starting the stack")
    async with open_stand(plan.config, plan.num_clients, watcher.on_event) as stand:
        watcher.on_stage("learning the answers")
        answers = await prepare(stand, plan.seed)
        before = held_now(stand.stack)
        drills = []
        for strike in strikes:
            watcher.on_stage(f"{strike.fault.name}: {strike.fault.what}")
            drills.append(await run_drill(stand, strike, answers, before))
            watcher.on_turn()
        return drills


async def prepare(stand: Stand, seed: int) -> list[KnownAnswer]:
    """Learn what plain decoding answers; ask all once with drafts, so that everything is open."""
    client = stand.clients[0]
    model = (await client.models()).models[0]
    requests = make_requests(model, 2 * max(4, len(stand.clients)), seed)
    answers = await learn_answers(client, requests)
    load = Load(stand.clients, answers)
    load.start()
    await _until_under_way(load)
    await load.finish()
    return answers


async def run_drill(
    stand: Stand, strike: Strike, answers: Sequence[KnownAnswer], before: Holdings
) -> Drill:
    """Run one drill on a stack that is well, and leave it well.

    Raises:
        CommandError: the stack is not well afterwards.
    """
    stand.events.clear()
    load, seen = Load(stand.clients, answers), Seen()
    load.start()
    try:
        await _until_under_way(load)
        await asyncio.sleep(strike.delay_s)
        await STRIKES[strike.fault.name](stand, strike, seen)
        await stand.wait_until_back()
        recovery_s = await _recovery_s(stand, strike.cell_index)
        missing_logs = await _missing_logs(stand, strike)
        seen.notes += await _counts_of(stand, strike.cell_index)
        tally = await load.finish()
    except CannotRun as error:
        await load.finish()
        return Drill(strike, stand.stack.config.num_cells, skipped=str(error))
    except BaseException:
        await load.abandon()
        raise
    return Drill(
        strike,
        stand.stack.config.num_cells,
        tally,
        recovery_s=recovery_s,
        leaks=await leaks_since(before, stand.stack),
        missing_logs=missing_logs,
        notes=seen.notes,
        failures=seen.broken,
    )


async def _until_under_way(load: Load) -> None:
    deadline_s = time.monotonic() + UNDER_WAY_TIMEOUT_S
    while not load.is_under_way:
        if time.monotonic() > deadline_s:
            raise CommandError(f"the load was not under way after {UNDER_WAY_TIMEOUT_S:g} s")
        await asyncio.sleep(POLL_S)


async def _recovery_s(stand: Stand, cell_index: int) -> float | None:
    """Return how long it takes until a cell drafts; None when it does not."""
    start_s = time.monotonic()
    num_rounds = await stand.num_rounds(cell_index) or 0
    while not await stand.is_drafting_past(cell_index, num_rounds):
        if time.monotonic() - start_s > RECOVERY_TIMEOUT_S:
            return None
        await asyncio.sleep(POLL_S)
    return time.monotonic() - start_s


async def _missing_logs(stand: Stand, strike: Strike) -> list[str]:
    """Return what should have been logged and is not; what has just happened is given time."""
    deadline_s = time.monotonic() + LOG_TIMEOUT_S
    while True:
        missing = [pair for pair in strike.fault.logs if not stand.has_logged(*pair)]
        if not missing or time.monotonic() > deadline_s:
            return [f"{kind}: {event}" for kind, event in missing]
        await asyncio.sleep(POLL_S)


async def _counts_of(stand: Stand, cell_index: int) -> list[str]:
    """Return what the cell has counted since it was started, where there is anything."""
    info = await stand.cell_info(cell_index)
    if info is None:
        return []
    counts = {
        "rounds fenced": info.counters.num_fenced_rounds,
        "late answers": info.counters.num_late_responses,
    }
    return [f"{num} {name} so far" for name, num in counts.items() if num]


def judge_deviations(drill: Drill, model_dir: Path) -> Drill:
    """Tell near ties from mismatches."""
    num = sum(is_near_tie(each, model_dir) for each in drill.tally.deviations)
    return replace(drill, num_near_ties=num)


def _skipped(strike: Strike, plan: DrillPlan, error: CannotRun) -> Drill:
    return Drill(strike, plan.config.num_cells, skipped=str(error))
