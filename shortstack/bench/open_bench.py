"""The peers of a measurement, up and warm: what is to be measured, and who does it.

Knows nothing of samples or reports. The pipeline and plain decoding through its gateway are always
there; the fused cell and the torch children as wished.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from shortstack.bench.prompts import BenchPrompt
from shortstack.bench.runners import (
    GatewayRunner,
    Runner,
    TorchRunner,
    Work,
    fastest_early_exit,
    mean_speed,
)
from shortstack.bench.samples import Peer
from shortstack.bench.torch_peer import ModelChoice, TorchPeer
from shortstack.client import Client
from shortstack.errors import UsageError
from shortstack.plan import SPIN_COUNT, CellKind, StackConfig, openmp_environment
from shortstack.request import PLAIN, Speculation, pinned
from shortstack.stack import Observer, Stack

NUM_TUNING_PROMPTS = 2
NUM_TUNING_RUNS = 3
MAX_TUNING_TOKENS = 32
# With the default, idle OpenMP threads spin for a moment: faster on a machine that is idle
# otherwise, ruinous on one that is not. Each child gets what suits it here and now.
ENVIRONMENTS: tuple[dict[str, str], ...] = (
    {},
    {"OMP_WAIT_POLICY": "PASSIVE"},
    # A small model is faster on one thread; our workers see to that themselves.
    {"OMP_NUM_THREADS": "1"},
    openmp_environment(SPIN_COUNT),
)


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """What is to be measured. exit_layer 0 is a quarter of the layers, as a cell has it."""

    choice: ModelChoice
    prompts: Sequence[BenchPrompt]
    peers: frozenset[Peer]
    max_new_tokens: int
    repeats: int = 3
    exit_layer: int = 0
    draft_len: int = 4
    stop_threshold: float = 0.0
    ignore_eos: bool = False

    def speculation(self, num_layers: int) -> Speculation:
        """Return what the pipeline and the fused cell are asked for."""
        return pinned(self.exit_of(num_layers), self.draft_len, self.stop_threshold)

    def exit_of(self, num_layers: int) -> int:
        """Return the exit layer."""
        return self.exit_layer or max(1, num_layers // 4)

    def stack_config(self, kind: CellKind) -> StackConfig:
        """Return a stack of one cell on this model."""
        return StackConfig(
            model=self.choice.model_dir,
            cell_kind=kind,
            dtype=self.choice.dtype,
            device=self.choice.device,
            num_threads=self.choice.num_threads,
            draft_vocab=self.choice.draft_vocab,
            exit_adapters=self.choice.exit_adapters,
        )


@dataclass(slots=True)
class Watcher:
    """Is told how a measurement goes on."""

    on_stage: Callable[[str], None] = lambda _: None
    on_turn: Callable[[], None] = lambda: None
    on_event: Observer = field(default=lambda name, event: None)


@dataclass(frozen=True, slots=True)
class Bench:
    """The peers that are up."""

    work: Work
    num_layers: int
    runners: list[Runner]
    plain: TorchRunner | None
    stacks: list[Stack]
    notes: dict[str, str]

    def poll(self) -> None:
        """Let the stacks tell what their processes have logged."""
        for stack in self.stacks:
            stack.poll()


@asynccontextmanager
async def open_bench(plan: DecodePlan, watcher: Watcher) -> AsyncIterator[Bench]:
    """Bring up every peer that is wished for, and run a prompt through each before it counts."""
    async with AsyncExitStack() as contexts:
        stacks = [await _open_stack(contexts, plan, CellKind.SPLIT, watcher)]
        split = await contexts.enter_async_context(Client(stacks[0].target))
        model = (await split.models()).models[0]
        check_room(plan.prompts, plan.max_new_tokens, model.max_context_len)
        work = Work(plan.max_new_tokens, tuple(model.eos_token_ids), plan.ignore_eos)
        speculation = plan.speculation(model.num_layers)
        runners: list[Runner] = [
            GatewayRunner(Peer.PIPELINE, split, work, speculation),
            GatewayRunner(Peer.PLAIN_GATEWAY, split, work, PLAIN),
        ]
        if Peer.FUSED in plan.peers:
            stacks.append(await _open_stack(contexts, plan, CellKind.FUSED, watcher))
            fused = await contexts.enter_async_context(Client(stacks[1].target))
            runners.append(GatewayRunner(Peer.FUSED, fused, work, speculation))
        torch_runners = await _torch_runners(contexts, plan, work)
        tuned = await _tuned(torch_runners, plan, plan.exit_of(model.num_layers))
        runners += tuned
        for runner in runners:
            await runner.run(plan.prompts[0])
        plain = next((runner for runner in tuned if runner.peer is Peer.PLAIN), None)
        yield Bench(work, model.num_layers, runners, plain, stacks, _notes(plan, tuned))


def check_room(prompts: Sequence[BenchPrompt], max_new_tokens: int, max_context_len: int) -> None:
    """Refuse prompts that some peers would cut and others would run on.

    Raises:
        UsageError: the longest prompt leaves too little room.
    """
    longest = max(prompts, key=lambda prompt: len(prompt.token_ids))
    room = max_context_len - len(longest.token_ids)
    if room < max_new_tokens:
        raise UsageError(
            f"prompt {longest.prompt_id} leaves room for {room} tokens in the context of "
            f"{max_context_len}, not for {max_new_tokens}"
        )


async def _open_stack(
    contexts: AsyncExitStack, plan: DecodePlan, kind: CellKind, watcher: Watcher
) -> Stack:
    stack = Stack(plan.stack_config(kind), watcher.on_event)
    return await contexts.enter_async_context(stack)


async def _torch_runners(
    contexts: AsyncExitStack, plan: DecodePlan, work: Work
) -> list[TorchRunner]:
    """Start the children; both peers of transformers share one."""
    children = {"plain": [Peer.PLAIN], "hf": [Peer.HF, Peer.HF_EARLY_EXIT]}
    runners = []
    for decoder, peers in children.items():
        wished = [peer for peer in peers if peer in plan.peers]
        if wished:
            environment = await _fastest_environment(decoder, wished[0], plan, work)
            child = TorchPeer(decoder, plan.choice, environment)
            await contexts.enter_async_context(child)
            runners += [TorchRunner(peer, child, work) for peer in wished]
    return runners


async def _fastest_environment(
    decoder: str, peer: Peer, plan: DecodePlan, work: Work
) -> dict[str, str]:
    """Try a child in each environment, the first run not counted; return that of the fastest."""
    short = replace(work, max_new_tokens=min(work.max_new_tokens, MAX_TUNING_TOKENS))
    speeds = []
    for environment in ENVIRONMENTS:
        async with TorchPeer(decoder, plan.choice, environment) as child:
            runner = TorchRunner(peer, child, short)
            await runner.run(plan.prompts[0])
            runs = [await mean_speed(runner, plan.prompts[:1]) for _ in range(NUM_TUNING_RUNS)]
            speeds.append(max(runs))
    return ENVIRONMENTS[speeds.index(max(speeds))]


async def _tuned(
    runners: Sequence[TorchRunner], plan: DecodePlan, exit_layer: int
) -> list[TorchRunner]:
    prompts = plan.prompts[:NUM_TUNING_PROMPTS]
    return [
        await fastest_early_exit(runner, prompts, exit_layer, plan.draft_len)
        if runner.peer is Peer.HF_EARLY_EXIT
        else runner
        for runner in runners
    ]


def _notes(plan: DecodePlan, tuned: Sequence[TorchRunner]) -> dict[str, str]:
    """Say which settings of its own each peer ran with."""
    spin_count = plan.stack_config(CellKind.SPLIT).spin_count
    waiting = openmp_environment(spin_count).items()
    notes = {"workers": ", ".join(f"{name}={value}" for name, value in waiting)}
    for runner in tuned:
        ready = runner.child.ready
        variables = [f"{name}={value}" for name, value in sorted(ready.environment.items())]
        words = [f"{ready.num_threads} threads", *(variables or ["OpenMP's defaults"])]
        if runner.early_exit is not None:
            words.append(runner.early_exit.describe())
        notes[runner.peer.value] = ", ".join(words)
    return notes
