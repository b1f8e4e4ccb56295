"""Runs a measurement of decoding: lets the peers take turns, then compares what they emitted.

One session at a time: while one peer decodes, the others wait in a read. For every prompt all peers
take their turn one after the other, and the whole is repeated, so that a change of the machine's
mood meets them all; the order within a turn is rotated for the same reason.
"""

from collections.abc import Callable, Sequence

from shared.speculation.cost_model import CostTable
from shared.telemetry.machine import describe_machine, pss_bytes
from shortstack.bench.open_bench import ENVIRONMENTS, Bench, DecodePlan, Watcher, open_bench
from shortstack.bench.prompts import BenchPrompt
from shortstack.bench.report import Conditions, DecodeReport, Memory
from shortstack.bench.runners import GatewayRunner, Runner, TorchRunner, Work
from shortstack.bench.samples import Peer, Sample
from shortstack.bench.torch_messages import CostsOrder
from shortstack.bench.torch_peer import TorchPeer
from shortstack.checking.compare import NEAR_TIE_GAP, Difference, Outcome, compare
from shortstack.client import Client
from shortstack.plan import CellKind
from shortstack.stack import Stack


async def measure_decoding(plan: DecodePlan, watcher: Watcher) -> DecodeReport:
    """Measure every peer on every prompt.

    Raises:
        CommandError: a process did not come up or stay up.
        ShortstackError: a prompt was refused or a request failed.
    """
    machine = describe_machine()
    memory = await measure_memory(plan, watcher)
    watcher.on_stage("bringing all peers up")
    async with open_bench(plan, watcher) as bench:
        watcher.on_stage("decoding, one peer at a time")

        def on_turn() -> None:
            bench.poll()
            watcher.on_turn()

        samples = await take_turns(bench.runners, plan.prompts, plan.repeats, on_turn)
        watcher.on_stage("measuring layers and heads")
        costs = await measure_costs(bench, plan)
        watcher.on_stage("comparing tokens")
        differences = await compare_tokens(bench, plan.prompts, samples)
    conditions = make_conditions(plan, bench)
    return DecodeReport(machine, conditions, samples, differences, memory, costs)


async def measure_memory(plan: DecodePlan, watcher: Watcher) -> Memory:
    """Measure the split cell and the plain process, each alone, after one prompt."""
    if Peer.PLAIN not in plan.peers:
        return Memory()
    watcher.on_stage("measuring memory")
    prompt = plan.prompts[0]
    async with TorchPeer("plain", plan.choice, ENVIRONMENTS[-1]) as child:
        await TorchRunner(Peer.PLAIN, child, Work(plan.max_new_tokens, ())).run(prompt)
        plain_bytes = pss_bytes([child.pid])
    async with (
        Stack(plan.stack_config(CellKind.SPLIT), watcher.on_event) as stack,
        Client(stack.target) as client,
    ):
        speculation = plan.speculation((await client.models()).models[0].num_layers)
        work = Work(plan.max_new_tokens, ())
        await GatewayRunner(Peer.PIPELINE, client, work, speculation).run(prompt)
        workers = [child for name, child in stack.children.items() if is_worker(name)]
        split_bytes = pss_bytes(child.pid for child in workers)
    return Memory(split_bytes, plain_bytes)


def is_worker(name: str) -> bool:
    """Say whether a child of the stack is a draft or verify worker."""
    return name.startswith(("draft", "verify"))


async def take_turns(
    runners: Sequence[Runner],
    prompts: Sequence[BenchPrompt],
    repeats: int,
    on_turn: Callable[[], None] = lambda: None,
) -> list[Sample]:
    """Let every runner decode every prompt `repeats` times, one at a time."""
    samples, num_turns = [], 0
    for _ in range(repeats):
        for prompt in prompts:
            first = num_turns % len(runners)
            for runner in (*runners[first:], *runners[:first]):
                samples.append(await runner.run(prompt))
                on_turn()
            num_turns += 1
    return samples


async def measure_costs(bench: Bench, plan: DecodePlan) -> CostTable | None:
    """Measure layers and head in the plain peer's process; None where there is none."""
    if bench.plain is None:
        return None
    exits = (plan.exit_of(bench.num_layers),)
    choice = plan.choice
    draft_len = max(plan.draft_len, 1)
    order = CostsOrder(exits, draft_len, choice.draft_vocab, choice.exit_adapters)
    return await bench.plain.child.costs(order)


async def compare_tokens(
    bench: Bench, prompts: Sequence[BenchPrompt], samples: Sequence[Sample]
) -> list[tuple[Peer, str, Difference]]:
    """Compare all samples with the plain peer's; without one, with plain through the gateway."""
    judge = Peer.PLAIN if bench.plain is not None else Peer.PLAIN_GATEWAY
    found = []
    for prompt in prompts:
        own = [sample for sample in samples if sample.prompt_id == prompt.prompt_id]
        expected = next(sample.token_ids for sample in own if sample.peer is judge)
        others = {sample.peer: sample for sample in own if sample.token_ids != expected}
        gaps = await _gaps(bench, prompt) if others else ()
        for peer, sample in others.items():
            difference = compare(sample.token_ids, expected, gaps, NEAR_TIE_GAP)
            assert difference.outcome is not Outcome.EQUAL
            found.append((peer, prompt.prompt_id, difference))
    return found


async def _gaps(bench: Bench, prompt: BenchPrompt) -> tuple[float, ...]:
    """Return the plain peer's top-two gaps; without it every difference is a mismatch."""
    if bench.plain is None:
        return (float("inf"),) * bench.work.max_new_tokens
    return (await bench.plain.answer(prompt, with_gaps=True)).gaps


def make_conditions(plan: DecodePlan, bench: Bench) -> Conditions:
    """Return what the report says of the plan."""
    return Conditions(
        model_dir=plan.choice.model_dir,
        num_layers=bench.num_layers,
        dtype=plan.choice.dtype,
        device=plan.choice.device,
        num_threads=plan.choice.num_threads,
        num_prompts=len(plan.prompts),
        max_new_tokens=plan.max_new_tokens,
        repeats=plan.repeats,
        exit_layer=plan.exit_of(bench.num_layers),
        draft_len=plan.draft_len,
        stop_threshold=plan.stop_threshold,
        notes=bench.notes,
        draft_vocab=plan.choice.draft_vocab,
        exit_adapters=plan.choice.exit_adapters,
    )
