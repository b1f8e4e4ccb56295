"""Runs the comparison: one stack, one session at a time, contenders in turn at every prompt.

The order within a turn is rotated, so that a change of the machine's mood meets all of them. Before
that each decodes the first prompts once, in the order of their names: what a method loads at its
first round is loaded then, and the memory that this takes is told.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from shared.rpc import shortstack_pb2 as pb
from shared.telemetry.machine import describe_machine, pss_bytes
from shortstack.bench.methods.contenders import OFF, Settings, contenders_of, names_of
from shortstack.bench.methods.report import MethodsReport
from shortstack.bench.methods.searched import Searched
from shortstack.bench.open_bench import Watcher
from shortstack.bench.prompts import BenchPrompt
from shortstack.bench.runners import GatewayRunner, Work
from shortstack.bench.samples import Peer, Sample
from shortstack.checking.compare import Difference, Outcome, compare
from shortstack.client import Client
from shortstack.errors import UsageError
from shortstack.events import Tokens
from shortstack.health import verify_info
from shortstack.plan import StackConfig
from shortstack.request import PLAIN, Limits, Request, Speculation
from shortstack.stack import Stack

NUM_WARM_UP = 2


@dataclass(frozen=True, slots=True)
class MethodsPlan:
    """What is to be measured; only: contenders by comma, empty for all that the model has."""

    stack: StackConfig
    prompts: Sequence[BenchPrompt]
    settings: Settings
    work: Work
    repeats: int
    only: str = ""


async def measure_methods(plan: MethodsPlan, watcher: Watcher) -> MethodsReport:
    """Measure every contender on every prompt.

    Raises:
        CommandError: a process did not come up or stay up.
        ShortstackError: a prompt was refused or a request failed.
        UsageError: a contender was named that the model does not have.
    """
    machine = describe_machine()
    watcher.on_stage("bringing the stack up")
    async with Stack(plan.stack, watcher.on_event) as stack, Client(stack.target) as client:
        target = stack.cells[0].verify_target
        info = await verify_info(target)
        adapters = info.draft_adapters
        contenders = _contenders(plan, info.model.num_layers, len(adapters))
        runners = {
            name: GatewayRunner(Peer.PIPELINE, client, plan.work, wished)
            for name, wished in contenders.items()
        }
        watcher.on_stage("warming up")
        added = await _warm_up(stack, runners, plan.prompts[:NUM_WARM_UP])
        watcher.on_stage("decoding, one contender at a time")
        before = (await verify_info(target)).counters
        samples = await _take_turns(runners, plan, watcher, stack)
        searched = searched_between(before, (await verify_info(target)).counters)
        watcher.on_stage("comparing tokens")
        differences = await _compare(client, plan, samples)
    return MethodsReport(
        model=plan.stack.model.resolve().name,
        num_layers=info.model.num_layers,
        machine=machine,
        conditions=_conditions(plan, info.settings_json),
        contenders=contenders,
        samples=samples,
        searched=searched,
        added_bytes=added,
        added_parameters={"kangaroo": sum(each.num_parameters for each in adapters)},
        differences=differences,
    )


def _contenders(plan: MethodsPlan, num_layers: int, num_adapters: int) -> dict[str, Speculation]:
    found = contenders_of(plan.settings, num_layers, num_adapters)
    try:
        return {name: found[name] for name in names_of(found, plan.only)}
    except ValueError as error:
        raise UsageError(f"--methods: {error}") from None


async def _warm_up(
    stack: Stack, runners: Mapping[str, GatewayRunner], prompts: Sequence[BenchPrompt]
) -> dict[str, int | None]:
    """Let every contender decode some prompts; return what the stack then holds more."""
    added: dict[str, int | None] = {}
    before = _memory_of(stack)
    for name, runner in runners.items():
        for prompt in prompts:
            await runner.run(prompt)
        now = _memory_of(stack)
        # The first one pays for what all of them need.
        is_known = name != OFF and now is not None and before is not None
        added[name] = now - before if is_known and now is not None and before is not None else None
        before = now
    return added


def _memory_of(stack: Stack) -> int | None:
    return pss_bytes([child.pid for child in stack.children.values()])


async def _take_turns(
    runners: Mapping[str, GatewayRunner], plan: MethodsPlan, watcher: Watcher, stack: Stack
) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in runners}
    names, num_turns = list(runners), 0
    for _ in range(plan.repeats):
        for prompt in plan.prompts:
            first = num_turns % len(names)
            for name in (*names[first:], *names[:first]):
                samples[name].append(await runners[name].run(prompt))
                # A process that has ended is told of; its requests fail by themselves.
                stack.poll()
                watcher.on_turn()
            num_turns += 1
    return samples


async def _compare(
    client: Client, plan: MethodsPlan, samples: Mapping[str, Sequence[Sample]]
) -> list[tuple[str, str, Difference]]:
    """Compare every sample with plain decoding's first one of its prompt."""
    expected = {each.prompt_id: each.token_ids for each in reversed(samples[OFF])}
    prompts = {prompt.prompt_id: prompt for prompt in plan.prompts}
    found = []
    for name, own in samples.items():
        for each in own:
            plain = expected[each.prompt_id]
            if each.token_ids != plain:
                gaps = await _gaps(client, prompts[each.prompt_id], plan.work)
                difference = compare(each.token_ids, plain, gaps)
                assert difference.outcome is not Outcome.EQUAL
                found.append((name, each.prompt_id, difference))
    return found


async def _gaps(client: Client, prompt: BenchPrompt, work: Work) -> list[float]:
    """Return by how much plain decoding preferred each of its tokens over the next best."""
    limits = Limits(max_new_tokens=work.max_new_tokens, ignore_eos=work.ignore_eos)
    request = Request(prompt.token_ids, limits=limits, speculation=PLAIN, num_logprobs=2)
    gaps = []
    async for event in client.generate(request):
        if isinstance(event, Tokens):
            for entry in event.logprobs:
                best, second = (logprob for _, logprob in entry.top[:2])
                gaps.append(best - second)
    return gaps


def searched_between(before: pb.WorkCounters, after: pb.WorkCounters) -> Searched:
    """Return what the search for skip sets did between two readings of a worker's counters."""
    return Searched(
        num_looks=after.num_set_looks - before.num_set_looks,
        looks_ns=after.set_looks_ns - before.set_looks_ns,
        steps_ns=after.searched_steps_ns - before.searched_steps_ns,
    )


def _conditions(plan: MethodsPlan, settings_json: str) -> dict[str, object]:
    lens = [len(prompt.token_ids) for prompt in plan.prompts]
    return {
        "num_prompts": len(lens),
        "mean_prompt_len": round(fmean(lens), 1),
        "max_new_tokens": plan.work.max_new_tokens,
        "repeats": plan.repeats,
        "verify_settings": json.loads(settings_json).get("verify", {}),
    }
