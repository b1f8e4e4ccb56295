"""How sessions and their rounds appear on a terminal. Ids are users' words: never markup."""

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shortstack.sessions.reasons import NO_ROUND, meaning_of
from shortstack.sessions.timeline import Stretch, stretches
from shortstack.sessions.values import SessionList, SessionState, SessionTimeline

NOTHING = "-"
# Columns that fold keep so much.
MIN_WIDTH = 10
NONE_RUNNING = "no sessions are running; --ended shows those that ended"
NONE_AT_ALL = "no sessions are running, and the cells remember none that ended"
NO_ROUNDS = "no round was committed yet"


def board(listed: SessionList, *, with_ended: bool) -> RenderableType:
    """Show the sessions, the cells that are missing, and what the reasons mean."""
    parts: list[RenderableType] = []
    if listed.sessions:
        parts.append(sessions_table(listed.sessions))
    else:
        parts.append(Text(NONE_AT_ALL if with_ended else NONE_RUNNING))
    for cell in listed.unanswered_cells:
        parts.append(Text(f"{cell.cell_id} at {cell.address} did not answer: {cell.error}"))
    parts.append(legend(each.reason for each in listed.sessions))
    return Group(*parts)


def sessions_table(sessions: Iterable[SessionState]) -> Table:
    """Return a row per session."""
    sessions = tuple(sessions)
    has_ended = any(each.has_ended for each in sessions)
    table = _table(
        ("session", "cell", "method"),
        ("E", "d", "stop", "kept", "tokens/\nround", "tokens/\ns", "rounds", "plain"),
        ("why", *(["ended"] if has_ended else [])),
    )
    for each in sessions:
        cells = [*_decision(each), *_counts(each), each.reason or NO_ROUND]
        if has_ended:
            cells.append(_end(each))
        table.add_row(
            each.session_id, each.cell_id, *map(Text, cells), style="dim" if each.has_ended else ""
        )
    return table


def _decision(state: SessionState) -> list[str]:
    if state.is_plain:
        return [state.method, NOTHING, NOTHING, NOTHING]
    threshold = f"{state.stop_threshold:g}"
    return [state.method, _exit(state.exit_layer), str(state.max_draft_len), threshold]


def _exit(exit_layer: int) -> str:
    """Return an exit layer; 0 is that of a method without one."""
    return str(exit_layer) if exit_layer else NOTHING


def _counts(state: SessionState) -> list[str]:
    num_drafts = state.num_rounds - state.num_plain_rounds
    return [
        _share(state.num_accepted_tokens, state.num_draft_tokens),
        f"{state.mean_emitted_len:.2f}" if num_drafts else NOTHING,
        f"{state.tokens_per_s:.1f}" if state.num_rounds else NOTHING,
        str(state.num_rounds),
        str(state.num_plain_rounds),
    ]


def _end(state: SessionState) -> str:
    return state.finish_reason.name.lower() if state.finish_reason is not None else ""


def legend(reasons: Iterable[str]) -> RenderableType:
    """Say what the reasons in sight mean."""
    known = sorted({reason for reason in reasons if reason})
    table = Table.grid(padding=(0, 2))
    for reason in known:
        table.add_row(Text(reason, style="bold"), Text(meaning_of(reason), style="dim"))
    return table


def timeline_view(timeline: SessionTimeline) -> RenderableType:
    """Show one session: how it stands, its rounds by stretches, what the reasons mean."""
    head = Text(headline(timeline.session))
    if not timeline.rounds:
        return Group(head, Text(NO_ROUNDS))
    cut = stretches(timeline.rounds)
    reasons = {reason for stretch in cut for reason in stretch.reasons}
    return Group(head, stretches_table(cut), legend(reasons))


def headline(state: SessionState) -> str:
    """Say in one line how a session stands."""
    num_drafts = state.num_rounds - state.num_plain_rounds
    parts = [
        f"{state.session_id} on {state.cell_id}",
        f"policy {state.policy}",
        f"{state.prompt_len} prompt tokens",
        f"{state.num_emitted} emitted",
        f"{num_drafts} rounds with a draft, {state.num_plain_rounds} plain",
    ]
    if state.acceptance_rate is not None:
        parts.append(f"acceptance {state.acceptance_rate:.2f}")
        parts.append(f"mean emitted length {state.mean_emitted_len:.2f}")
    parts.append(
        f"ended: {_end(state)}" if state.has_ended else f"{state.tokens_per_s:.1f} tokens/s"
    )
    return " · ".join(parts)


def stretches_table(cut: Iterable[Stretch]) -> Table:
    """Return a row per stretch of rounds under one setting."""
    table = _table(
        ("rounds", "positions", "method"),
        ("E", "d", "stop", "drafts", "kept", "tokens/\nround", "ms/\nround", "alarms"),
        ("why",),
    )
    for each in cut:
        first, last = each.first, each.last
        setting = [NOTHING, NOTHING, NOTHING]
        if first.max_draft_len:
            setting = [
                _exit(first.exit_layer),
                str(first.max_draft_len),
                f"{first.stop_threshold:g}",
            ]
        table.add_row(
            _span(first.round_index, last.round_index),
            _span(first.position, last.position + last.num_emitted - 1),
            Text(first.method),
            *setting,
            str(each.num_draft_tokens),
            _share(each.num_accepted_tokens, each.num_draft_tokens),
            f"{each.num_emitted / len(each.rounds):.2f}",
            f"{each.mean_round_ms:.1f}",
            str(each.num_alarms) if each.num_alarms else "",
            Text(", ".join(each.reasons)),
        )
    return table


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2f}" if whole else NOTHING


def _table(left: Iterable[str], right: Iterable[str], last: Iterable[str]) -> Table:
    """Return a table of which the first and the last columns fold where a terminal is narrow."""
    left, last = list(left), list(last)
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column(left[0], overflow="fold", min_width=MIN_WIDTH)
    for name in left[1:]:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    for name in last:
        table.add_column(name, overflow="fold", min_width=min(len(name), MIN_WIDTH))
    return table
