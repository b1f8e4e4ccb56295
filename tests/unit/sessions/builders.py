"""Sessions and rounds by hand."""

from collections.abc import Iterable
from dataclasses import replace

from shared.ids import CellId, SessionId
from shared.speculation.vocabulary import FinishReason
from shortstack.sessions.values import Round, SessionState, SessionTimeline

SESSION = SessionState(
    session_id=SessionId("ses-1"),
    cell_id=CellId("cell-0"),
    tenant="ann",
    method="layerskip",
    exit_layer=2,
    max_draft_len=4,
    stop_threshold=0.6,
    policy="goodput",
    reason="policy",
    prompt_len=10,
    num_emitted=90,
    num_rounds=40,
    num_plain_rounds=8,
    num_draft_tokens=100,
    num_accepted_tokens=57,
    tokens_per_s=81.26,
    mean_emitted_len=2.78,
    finish_reason=None,
    age_ms=1500,
)
FRESH = replace(
    SESSION,
    session_id=SessionId("ses-new"),
    reason="",
    num_emitted=1,
    num_rounds=0,
    num_plain_rounds=0,
    num_draft_tokens=0,
    num_accepted_tokens=0,
    tokens_per_s=0.0,
    mean_emitted_len=0.0,
)
PLAIN = replace(
    SESSION,
    session_id=SessionId("ses-plain"),
    method="off",
    exit_layer=0,
    max_draft_len=0,
    stop_threshold=0.0,
    reason="unprofitable",
)
ENDED = replace(SESSION, session_id=SessionId("ses-old"), finish_reason=FinishReason.LENGTH)


def drafted(draft_len: int, num_accepted: int, **fields: object) -> Round:
    """Return a round with a draft, emitted whole."""
    made = Round(
        round_index=0,
        position=0,
        at_ns=0,
        round_ns=20_000_000,
        method="layerskip",
        exit_layer=2,
        max_draft_len=4,
        stop_threshold=0.0,
        draft_len=draft_len,
        num_accepted=num_accepted,
        num_emitted=num_accepted + 1,
        reason="policy",
        is_alarm=False,
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def plain(reason: str) -> Round:
    """Return a plain round."""
    return drafted(0, 0, method="off", exit_layer=0, max_draft_len=0, reason=reason)


def timeline(rounds: Iterable[Round], state: SessionState = SESSION) -> SessionTimeline:
    """Return rounds one after the other: indices from 1, positions from the prompt's end."""
    placed, position = [], state.prompt_len + 1
    for index, each in enumerate(rounds, 1):
        placed.append(replace(each, round_index=index, position=position))
        position += each.num_emitted
    return SessionTimeline(state, tuple(placed))


MIXED = timeline(
    [
        *(plain("cold") for _ in range(4)),
        *(drafted(4, 4 - index % 3) for index in range(30)),
        *(drafted(6, 5, exit_layer=4, max_draft_len=6) for _ in range(20)),
        drafted(6, 0, exit_layer=4, max_draft_len=6, is_alarm=True),
        *(plain("unprofitable") for _ in range(12)),
        *(drafted(2, 1, max_draft_len=2, reason="hold") for _ in range(25)),
        *(plain("guard") for _ in range(10)),
        *(drafted(3, 2, max_draft_len=4) for _ in range(20)),
    ]
)
