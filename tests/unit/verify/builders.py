"""Sessions and memory for tests that run no model."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from services.verify.memory import PrefixSharing, SessionMemory
from services.verify.session import Session, SessionEvent
from shared.control.fair_queue import Priority
from shared.model.kv_pool import KVPool, PoolLayout
from shared.model.segment import LocalSegment
from shared.speculation.vocabulary import LAYERSKIP, Decision, SamplingParams
from tests.engine_harness import GREEDY, make_request

WISHED = Decision(LAYERSKIP, 2, 4)
CONTEXT_LEN = 64


def make_memory(
    num_pages: int = 16,
    page_size: int = 4,
    num_exit_slots: int = 4,
    prefix_sharing: PrefixSharing = "all",
) -> SessionMemory:
    """Return the memory of a pool with one small layer."""
    layout = PoolLayout(num_pages, page_size, 1, 1, 2, 2, num_exit_slots, 8, "float32")
    pool = KVPool(LocalSegment(layout.size_bytes, torch.device("cpu")), layout)
    return SessionMemory(pool, CONTEXT_LEN, prefix_sharing)


def make_session(
    session_id: str = "s",
    prompt: Sequence[int] = (5, 6, 7),
    max_new_tokens: int = 20,
    *,
    wished: Decision = WISHED,
    num_unread: int = 0,
    num_generated: int = 0,
    num_emitted: int = 0,
    stop_token_ids: Sequence[int] = (),
    min_new_tokens: int = 0,
    sampling: SamplingParams = GREEDY,
    tenant: str = "",
    priority: Priority = Priority.NORMAL,
    is_pinned: bool = False,
    arrived_ns: int = 0,
) -> Session:
    """Return a session; with `num_generated` tokens it is past its prefill."""
    events: list[SessionEvent] = []
    request = make_request(
        prompt,
        max_new_tokens,
        session_id=session_id,
        wished=wished,
        num_emitted=num_emitted,
        stop_token_ids=stop_token_ids,
        min_new_tokens=min_new_tokens,
        sampling=sampling,
    )
    request = replace(request, tenant=tenant, priority=priority, is_pinned=is_pinned)
    session = Session(request, events.append, arrived_ns, lambda: num_unread)
    if num_generated:
        session.tokens += [9] * num_generated  # type: ignore[list-item]
        session.num_run, session.is_decoding = len(session.tokens) - 1, True
    return session
