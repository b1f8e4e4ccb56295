"""Sessions on a terminal."""

import ast
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from rich.console import Console, RenderableType

import services.verify
import shared.control
from shared.ids import CellId, SessionId
from shortstack.sessions.reasons import REASONS
from shortstack.sessions.values import SessionList, SessionState, UnansweredCell
from shortstack.sessions.view import board, timeline_view
from tests.unit.sessions.builders import ENDED, FRESH, MIXED, PLAIN, SESSION, timeline


def shown(what: RenderableType, width: int = 160) -> str:
    """Return what a console of that width shows."""
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rows_of(*sessions: SessionState, with_ended: bool = False) -> dict[str, list[str]]:
    """Return the words of each session's row, by its id."""
    lines = shown(board(SessionList(sessions), with_ended=with_ended)).splitlines()
    rows = [line.split() for line in lines if line.startswith("ses-")]
    return {row[0]: row[1:] for row in rows}


def test_a_row_tells_what_is_decided_what_came_of_it_and_why() -> None:
    row = rows_of(SESSION)["ses-1"]
    assert row == ["cell-0", "layerskip", "2", "4", "0.6", "0.57", "2.78", "81.3", "40", "8",
                   "policy"]  # fmt: skip


def test_what_is_not_there_is_a_dash() -> None:
    rows = rows_of(PLAIN, FRESH)
    assert rows["ses-plain"][1:6] == ["off", "-", "-", "-", "0.57"]
    assert rows["ses-new"][5:] == ["-", "-", "-", "0", "0", "-"]


def test_a_method_without_an_exit_shows_none() -> None:
    row = rows_of(replace(SESSION, method="swift", exit_layer=0))["ses-1"]
    assert row[1:5] == ["swift", "-", "4", "0.6"]


def test_ended_sessions_say_how() -> None:
    rows = rows_of(SESSION, ENDED, with_ended=True)
    assert (rows["ses-old"][-1], rows["ses-1"][-1]) == ("length", "policy")


def test_the_reasons_in_sight_are_explained() -> None:
    text = shown(board(SessionList((SESSION, PLAIN)), with_ended=False))
    assert REASONS["policy"] in text
    assert REASONS["unprofitable"] in text
    assert REASONS["guard"] not in text
    unknown = shown(board(SessionList((replace(SESSION, reason="astral"),)), with_ended=False))
    assert "not known to this version" in unknown


def test_empty_lists_say_so() -> None:
    nothing = SessionList(())
    running = shown(board(nothing, with_ended=False))
    assert "no sessions are running; --ended shows those that ended" in running
    assert "remember none that ended" in shown(board(nothing, with_ended=True))


def test_cells_that_did_not_answer_are_named() -> None:
    cell = UnansweredCell(CellId("cell-9"), "10.0.0.9:50061", "too slow")
    text = shown(board(SessionList((SESSION,), (cell,)), with_ended=False))
    assert "cell-9 at 10.0.0.9:50061 did not answer: too slow" in text


def test_a_narrow_terminal_folds_the_id_and_loses_nothing() -> None:
    long = replace(SESSION, session_id=SessionId("ses-0123456789abcdef"), reason="no_draft_worker")
    lines = shown(board(SessionList((long,)), with_ended=False), width=80).splitlines()
    rows = [
        line for line in lines if line[:1] in ("s", "0", "6") and not line.startswith("session")
    ]
    assert "".join(line.split(" ")[0] for line in rows[:2]) == long.session_id
    assert "…" not in "".join(lines)
    assert all(len(line) <= 80 for line in lines)


def test_ids_are_not_markup() -> None:
    odd = replace(SESSION, session_id=SessionId("[red]s"), reason="[bold]")
    text = shown(board(SessionList((odd,)), with_ended=False))
    assert "[red]s" in text
    assert "[bold]" in text


def test_a_timeline_is_a_row_per_stretch() -> None:
    lines = [line.split() for line in shown(timeline_view(MIXED)).splitlines()]
    rows = [line for line in lines if line and line[0].split("-")[0].isdigit()]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("1-4", "11-14", "cold"),
        ("5-34", "15-134", "policy"),
        ("35-55", "135-255", "policy"),
        ("56-67", "256-267", "unprofitable"),
        ("68-92", "268-317", "hold"),
        ("93-102", "318-327", "guard"),
        ("103-122", "328-387", "policy"),
    ]
    # Exit layer, most drafts, threshold, drafts, kept, tokens and ms per round, alarms.
    assert rows[2][3:-1] == ["4", "6", "0", "126", "0.79", "5.76", "20.0", "1"]


def test_a_session_without_rounds_says_so() -> None:
    text = shown(timeline_view(timeline([], FRESH)))
    assert "ses-new on cell-0" in text
    assert "no round was committed yet" in text


def test_every_reason_that_the_code_gives_is_explained() -> None:
    given = set(given_reasons(shared.control)) | set(given_reasons(services.verify))
    assert {"pinned", "limit", "no_draft_worker"} <= given
    # Empty is the reason of a round that was not yet.
    assert given - {""} <= set(REASONS)


def given_reasons(package: ModuleType) -> Iterator[str]:
    """Return the reasons that a package writes into decisions of a served session."""
    (root,) = package.__path__
    for file in Path(root).rglob("*.py"):
        # Replays are not served.
        if "replay" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield from reasons_of(node)


def reasons_of(call: ast.Call) -> Iterator[str]:
    """Return the texts that a call gives as the reason of decisions."""
    name = getattr(call.func, "id", "")
    if name not in ("replace", "Decision", "all_plain"):
        return
    values = [each.value for each in call.keywords if each.arg == "reason"]
    if name == "all_plain":
        values += call.args
    for value in values:
        for node in ast.walk(value):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
