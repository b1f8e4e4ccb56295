"""Peers of a measurement: started, tried out, or set aside with the reason.

A peer runs with what suits it on this machine: the ways in which idle threads may wait, and its
attention implementations, are tried on a short load, and the fastest is measured.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from shortstack.bench.open_bench import ENVIRONMENTS, Watcher
from shortstack.bench.serve.loops import Extent, closed_loop
from shortstack.bench.serve.plan import PeerName, ServePlan
from shortstack.bench.serve.result import Outcome, with_outcome
from shortstack.bench.serve.senders import Ends, PeerSender
from shortstack.bench.serve.stream_peer import StreamPeer
from shortstack.bench.serve.workload import WorkItem
from shortstack.errors import CommandError

ATTENTIONS = ("sdpa", "eager")
TRIAL_CONCURRENCY = {PeerName.HF_CONTINUOUS: 8, PeerName.HF: 1}
NUM_TRIAL_TOKENS = 24
# Sequences that the cache of a peer holds beyond those of the closed loop, so that none must wait.
MIN_SEQUENCES = 32


@dataclass(frozen=True, slots=True)
class Setup:
    """How a child is started."""

    attention: str
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Peers:
    """The peers that are up, how they run, and why others do not."""

    senders: list[PeerSender]
    notes: dict[str, str]
    missing: dict[str, str]


@asynccontextmanager
async def open_peers(plan: ServePlan, ends: Ends, watcher: Watcher) -> AsyncIterator[Peers]:
    """Start every peer that is wished for; one that does not run here is told, not fatal."""
    peers = Peers([], {}, {})
    async with AsyncExitStack() as contexts:
        for name in plan.peers:
            watcher.on_stage(f"trying {name} out")
            try:
                setup = await best_setup(name, plan, ends)
                peer = await contexts.enter_async_context(make_peer(name, plan, setup))
            except CommandError as error:
                peers.missing[name.value] = str(error)
                continue
            peers.senders.append(PeerSender(name.value, peer, ends))
            peers.notes[name.value] = describe(peer)
        yield peers


def make_peer(name: PeerName, plan: ServePlan, setup: Setup) -> StreamPeer:
    """Return a child that has not been started."""
    num_sequences = max(plan.max_concurrency, MIN_SEQUENCES)
    # A page holds 256 tokens, so every sequence may waste almost one.
    max_cached_tokens = num_sequences * (plan.longest_sequence + 256)
    return StreamPeer(
        name.value,
        plan.choice,
        setup.attention,
        max_cached_tokens,
        plan.shares_prefixes,
        setup.environment,
    )


async def best_setup(name: PeerName, plan: ServePlan, ends: Ends) -> Setup:
    """Try environments, then attention implementations; return the fastest together.

    Raises:
        CommandError: the first of them does not run.
    """
    best = Setup(ATTENTIONS[0], ENVIRONMENTS[0])
    if not plan.is_tuned:
        return best
    speed = await trial_speed(name, plan, ends, best)
    others = [Setup(ATTENTIONS[0], environment) for environment in ENVIRONMENTS[1:]]
    for setup in others:
        if (found := await trial_speed(name, plan, ends, setup)) > speed:
            best, speed = setup, found
    for attention in other_attentions(plan.choice.device):
        setup = Setup(attention, best.environment)
        try:
            found = await trial_speed(name, plan, ends, setup)
        except CommandError:
            continue  # the peer runs; it is only this attention that the device or model has not
        if found > speed:
            best, speed = setup, found
    return best


def other_attentions(device: str) -> list[str]:
    """Return the attention implementations to try besides the first."""
    has_flash = not device.startswith("cpu") and find_spec("flash_attn") is not None
    return [*ATTENTIONS[1:], *(["flash_attention_2"] if has_flash else [])]


async def trial_speed(name: PeerName, plan: ServePlan, ends: Ends, setup: Setup) -> float:
    """Return tokens per second of a short load, sent twice and counted once.

    Raises:
        CommandError: the peer does not run.
    """
    concurrency = TRIAL_CONCURRENCY[name]
    async with make_peer(name, plan, setup) as peer:
        sender = PeerSender(name.value, peer, ends)
        for _ in range(2):
            run = await closed_loop(sender, trial_items(plan), concurrency, Extent(concurrency))
    if failed := with_outcome(run.results, Outcome.FAILED):
        raise CommandError(failed[0].error)
    num_tokens = sum(len(result.token_ids) for result in run.results)
    return num_tokens / run.whole().length_s


def trial_items(plan: ServePlan) -> Iterator[WorkItem]:
    """Yield the first prompts, over and over."""
    index = 0
    while True:
        yield WorkItem(index, plan.prompts[index % len(plan.prompts)], NUM_TRIAL_TOKENS)
        index += 1


def describe(peer: StreamPeer) -> str:
    """Say how a peer runs."""
    ready = peer.ready
    variables = [f"{name}={value}" for name, value in sorted(ready.environment.items())]
    words = [f"{ready.num_threads} threads", *(variables or ["OpenMP's defaults"])]
    return ", ".join([*words, ready.details])
