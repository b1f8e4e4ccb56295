"""Scenario `sweep`: every mode and every peer under every load, one after the other.

Within a repeat all senders take their turn at a load before the next load begins, in an order that
rotates, so that a change of the machine's mood meets them all. Medians are taken over repeats.
"""

from shared.telemetry.machine import describe_machine
from shortstack.bench.open_bench import Watcher
from shortstack.bench.serve.checks import check_of, differences, expected_answers
from shortstack.bench.serve.conditions import make_conditions
from shortstack.bench.serve.open_serve import open_server, warm_up
from shortstack.bench.serve.peers import open_peers
from shortstack.bench.serve.plan import ServePlan
from shortstack.bench.serve.senders import Sender
from shortstack.bench.serve.sweep_report import SweepReport
from shortstack.bench.serve.turns import loads_of, take_turns


async def measure_sweep(plan: ServePlan, watcher: Watcher) -> SweepReport:
    """Measure all senders under all loads, then compare what they emitted.

    Raises:
        CommandError: a process did not come up or stay up.
        UsageError: a load or a prompt cannot be carried out.
    """
    machine = describe_machine()
    loads_of(plan)
    async with (
        open_server(plan, watcher) as server,
        open_peers(plan, server.ends, watcher) as peers,
    ):
        senders: list[Sender] = [server.sender(mode) for mode in plan.modes]
        senders += peers.senders
        watcher.on_stage("warming up")
        await warm_up(senders, plan.prompts)
        turns = [turn async for turn in take_turns(plan, server, senders, watcher)]
    watcher.on_stage("comparing tokens")
    expected = await expected_answers(plan.choice, plan.prompts, plan.mix.longest, server.ends)
    found, checks = [], {}
    for sender in senders:
        results = [each for turn in turns if turn.sender == sender.name for each in turn.results]
        own = differences(sender.name, results, expected)
        checks[sender.name] = check_of(results, own)
        found += own
    conditions = make_conditions(plan, server.num_layers, peers.notes, peers.missing)
    return SweepReport(machine, conditions, turns, checks, found)
