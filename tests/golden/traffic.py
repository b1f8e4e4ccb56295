"""Traffic for a stepped cell: clients that come, pause, give up, take turns; texts held to plain.

Whatever happens to a session (shared beginnings, preemption, fences, replays), it must have emitted
what plain decoding of its request alone emits, or a beginning of that if its client gave up.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite

import torch

from services.verify.session import Finished, SessionRequest
from shared.control.fair_queue import Priority
from shared.control.policies.registry import GOODPUT
from shared.control.policies.static import NAME as STATIC
from shared.errors import PoolExhausted, QueueFull, ShortstackError
from shared.model.page_table import PageTable
from shared.speculation.arm import arm_of
from shared.speculation.vocabulary import (
    LAYERSKIP,
    Decision,
    Extent,
    FinishReason,
    SamplingParams,
    TreeBudget,
)
from tests.engine_harness import Recorded, make_request
from tests.golden.draft_sides import PENALISED
from tests.golden.moody_drafter import Mood
from tests.golden.reference import GREEDY, ModelShelf, PlainPass, TieCount, make_prompt, sampled
from tests.golden.stepped_cell import SteppedCell
from tests.model_builder import EOS_ID

MAX_PROMPT_LEN = 40
MAX_NEW = 14
NEXT_TURN = 3
PREFIXES = [make_prompt(100 + index, length) for index, length in enumerate((6, 11, 16))]
SAMPLINGS = (GREEDY, SamplingParams(0.8, seed=3), sampled(4), PENALISED)
# Many ids, so that texts end at any place.
STOP_IDS = (EOS_ID, *range(60, 76))
KV_TOLERANCE = 1e-4
# Steps without an event for anybody, behind which somebody waits for ever: prompts of
# MAX_PROMPT_LEN + MAX_NEW tokens in chunks of 4 rows take 14, those of one session at a time.
MAX_QUIET_STEPS = 80


@dataclass(frozen=True)
class Arrival:
    """A session to come. prefix: one of PREFIXES, or NEXT_TURN of a text that is there already."""

    prefix: int = 0
    tail_len: int = 2
    tail_seed: int = 0
    num_new: int = 8
    sampling: int = 0
    has_stop_ids: bool = False
    num_logprobs: int | None = None
    exit_layer: int = 2
    draft_len: int = 4
    threshold: float = 0.0
    tree: TreeBudget | None = None
    tenant: str = ""
    priority: Priority = Priority.NORMAL
    is_pinned: bool = False
    chooses_exit: bool = False
    method: str = LAYERSKIP


def random_arrival(draw: random.Random, methods: Sequence[str] = (LAYERSKIP,)) -> Arrival:
    """Draw one that drafts by one of these methods."""
    method = draw.choice(methods) if len(methods) > 1 else methods[0]
    trees = (None, TreeBudget(7, 3, 1.0)) if method == LAYERSKIP else (None, None)
    return Arrival(
        prefix=draw.randrange(4),
        tail_len=draw.randrange(7),
        tail_seed=draw.randrange(3),
        num_new=draw.randint(1, MAX_NEW),
        sampling=draw.randrange(len(SAMPLINGS)),
        has_stop_ids=draw.random() < 0.3,
        num_logprobs=draw.choice((None, None, 2)),
        exit_layer=draw.randint(1, 3),
        draft_len=draw.randint(0, 7),
        threshold=draw.choice((0.0, 0.4)),
        tree=draw.choice(trees),
        tenant=draw.choice(("", "ann", "bob")),
        priority=draw.choice((Priority.NORMAL, Priority.NORMAL, Priority.LOW)),
        is_pinned=draw.random() < 0.5,
        chooses_exit=draw.random() < 0.5,
        method=method,
    )


def request_of(arrival: Arrival, index: int, known: Sequence[Sequence[int]]) -> SessionRequest:
    """Return the arrival's request; next turns go on from one of the known texts."""
    seed = 10 * arrival.tail_seed + arrival.tail_len
    if arrival.prefix == NEXT_TURN and known:
        start = known[seed % len(known)]
    else:
        start = PREFIXES[arrival.prefix % len(PREFIXES)]
    prompt = [*start, *make_prompt(seed, arrival.tail_len)][:MAX_PROMPT_LEN]
    request = make_request(
        prompt,
        arrival.num_new,
        session_id=f"ses-{index}",
        wished=Decision(
            arrival.method,
            arrival.exit_layer,
            arrival.draft_len,
            arrival.threshold,
            tree=arrival.tree,
        ),
        sampling=SAMPLINGS[arrival.sampling],
        stop_token_ids=STOP_IDS if arrival.has_stop_ids else (),
        num_logprobs=arrival.num_logprobs,
    )
    return replace(
        request,
        tenant=arrival.tenant,
        priority=arrival.priority,
        is_pinned=arrival.is_pinned,
        policy=GOODPUT if arrival.chooses_exit else STATIC,
        arms=_arms_of(arrival) if arrival.chooses_exit else (),
    )


def _arms_of(arrival: Arrival) -> tuple[int, ...]:
    own = arm_of(arrival.method, arrival.exit_layer)
    return tuple(sorted({1, 2, 3, own}))


class TextCheck:
    """Compares what sessions emitted with plain decoding."""

    def __init__(self, shelf: ModelShelf, kind: str, ties: TieCount) -> None:
        self._shelf = shelf
        self._kind = kind
        self._ties = ties

    def __call__(self, request: SessionRequest, recorded: Recorded) -> None:
        """Fail unless the session emitted its plain text, or a beginning if it was cancelled."""
        plain = self._shelf.plain(
            self._kind,
            request.token_ids,
            request.stop.max_new_tokens,
            request.sampling,
            sorted(request.stop.stop_token_ids),
        )
        found, expected = recorded.token_ids, plain.token_ids
        ended = recorded.events[-1] if recorded.events else None
        if not isinstance(ended, Finished) or ended.reason is FinishReason.CANCELLED:
            expected = expected[: len(found)]
        elif found == expected:
            assert ended.reason is plain.finish_reason
        self._ties.compare(found, expected, plain.gaps, f"{recorded.session.session_id}")
        wanted = 0 if request.num_logprobs is None else 1
        for each in recorded.rounds:
            assert len(each.logprobs) == wanted * len(each.token_ids)
            assert all(isfinite(logprob) and logprob <= 1e-6 for logprob, _ in each.logprobs)


@dataclass
class Client:
    """Who asked for a session, and whether it reads."""

    request: SessionRequest
    recorded: Recorded | None = None
    is_paused: bool = False
    has_given_up: bool = False
    is_checked: bool = False

    def num_unread(self) -> int:
        """Return what it has not read: nothing, or too much."""
        return 1 << 30 if self.is_paused else 0


@dataclass
class Traffic:
    """Clients of one cell; every operation is harmless at any moment."""

    cell: SteppedCell
    check: TextCheck
    clients: list[Client] = field(default_factory=list)
    num_quiet_steps: int = 0

    def arrive(self, arrival: Arrival) -> Client:
        """Submit a session."""
        known = [
            [*each.request.token_ids, *each.recorded.token_ids]
            for each in self.clients
            if each.recorded is not None and each.is_checked
        ]
        client = Client(request_of(arrival, len(self.clients), known))
        client.recorded = self.cell.open(client.request, client.num_unread)
        self.clients.append(client)
        return client

    def _chosen(self, index: int) -> Client | None:
        live = [each for each in self.clients if not each.is_checked]
        return live[index % len(live)] if live else None

    def pause(self, index: int) -> None:
        """Let a client stop reading."""
        client = self._chosen(index)
        if client is not None:
            client.is_paused = True

    def resume_all(self) -> None:
        """Let all clients read on."""
        for client in self.clients:
            client.is_paused = False

    def give_up(self, index: int) -> None:
        """Let a client go away."""
        client = self._chosen(index)
        if client is not None and client.recorded is not None:
            client.has_given_up = True
            self.cell.cancel(client.recorded)

    def step(self, num_steps: int = 1) -> None:
        """Let the engine go on; whoever wrote late writes in between."""
        for _ in range(num_steps):
            num_before = self._num_events()
            self.cell.step()
            self.cell.drafter.scribble()
            self.num_quiet_steps = (
                0 if self._num_events() > num_before else self.num_quiet_steps + 1
            )
            self._check_ended()

    def _num_events(self) -> int:
        return sum(len(each.recorded.events) for each in self.clients if each.recorded)

    def _check_ended(self) -> None:
        for client in self.clients:
            recorded = client.recorded
            if client.is_checked or recorded is None or not recorded.done.is_set():
                continue
            client.is_checked = True
            last = recorded.events[-1]
            if isinstance(last, ShortstackError):
                assert isinstance(last, (QueueFull, PoolExhausted)), repr(last)
                assert last.retry_delay_ms > 0
                assert recorded.token_ids == []
                continue
            assert isinstance(last, Finished)
            if last.reason is FinishReason.CANCELLED:
                assert client.has_given_up
            self.check(client.request, recorded)

    def mend(self) -> None:
        """Let the draft worker be sound and attached, and all late writers gone."""
        drafter = self.cell.drafter
        drafter.mood = Mood.SOUND
        drafter.answer()
        drafter.bury()
        drafter.attach()

    def finish(self) -> None:
        """Run to the end of all; then the memory must hold nothing but the prefix cache."""
        self.resume_all()
        self.mend()
        self.num_quiet_steps = 0
        while len(self.cell.roster) or self._has_inbox():
            self.step()
            assert self.num_quiet_steps < MAX_QUIET_STEPS, f"nobody goes on: {self._where()}"
        self.step()
        for client in self.clients:
            if not client.is_checked:
                # Given up before it had memory (again): its stream is told nothing more.
                assert client.has_given_up and client.recorded is not None
                self.check(client.request, client.recorded)
        self._check_cached_kv()
        self.cell.check_idle()

    def _has_inbox(self) -> bool:
        return not self.cell.engine._inbox.empty()

    def _where(self) -> list[tuple[str, int, bool]]:
        return [
            (each.session_id, each.committed_len, each.table is not None)
            for each in [*self.cell.roster.running, *self.cell.roster._waiting]
        ]

    def _check_cached_kv(self) -> None:
        """Compare the KV of all cached pages with that of plain passes over their texts."""
        page_size = self.cell.memory.page_size
        for tokens, pages in self.cell.cached_texts():
            plain = PlainPass(self.cell.stack, tokens)
            table = PageTable([Extent(page, 1) for page in pages], page_size)
            slots = torch.tensor(table.slots(0, len(tokens)))
            for layer, kv in enumerate(self.cell.pool.layers):
                found = kv.index_select(2, slots)
                expected = plain.kv_layers[layer][:, :, : len(tokens)]
                worst = (found - expected).abs().max().item()
                assert worst < KV_TOLERANCE, f"layer {layer} of cached {tokens}: {worst:.1e}"
