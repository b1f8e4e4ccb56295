"""Drafts the rounds of one message: every round's next rows in one step, whatever its method.

    step      0                1                2
    round 1   rows to E_1      rows to E_1      (finished)
    round 2   rows to E_2      rows to E_2      rows to E_2
              one pass         one pass         one pass

Rows are sorted by exit layer, deepest first, so that those active at a layer are a prefix.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from shared.errors import StaleHandle
from shared.ids import TokenId
from shared.speculation.methods.base import Choice, DraftingRound, DraftRow, DraftRunner
from shared.speculation.methods.registry import method_named
from shared.speculation.vocabulary import Draft, RoundTask

if TYPE_CHECKING:
    from shared.model.page_table import PageTable


def draft_rounds(tasks: Sequence[RoundTask], runner: DraftRunner) -> list[Draft]:
    """Draft one round of every task; one whose handle is stale is answered with its error, alone.

    Raises:
        InvalidRequest: a task names a method that there is not.
    """
    rounds, refused = _open_rounds(tasks, runner)
    active = sorted(rounds, key=_place)
    while steps := [(each, rows) for each in active if (rows := each.next_rows())]:
        chosen = iter(runner.step([row for _, rows in steps for row in rows]))
        for each, rows in steps:
            each.note(list(_take(chosen, rows)))
        active = [each for each, _ in steps]
    return [*_finished(rounds, runner), *refused]


def _place(each: DraftingRound) -> tuple[int, str]:
    """Order rounds: deeper exits first, those of a method next to each other."""
    decision = each.task.decision
    return -decision.exit_layer, decision.method


def _open_rounds(
    tasks: Sequence[RoundTask], runner: DraftRunner
) -> tuple[list[DraftingRound], list[Draft]]:
    rounds, refused = [], []
    for task in tasks:
        try:
            table = runner.open_table(task)
        except StaleHandle as error:
            refused.append(Draft(task.session_id, task.round_index, (), (), error=error.message))
            continue
        history = _history(task, table, runner)
        rounds.append(method_named(task.decision.method).open_round(task, table, history))
    return rounds, refused


def _history(task: RoundTask, table: "PageTable", runner: DraftRunner) -> list[TokenId]:
    if not task.sampling.needs_history:
        return []
    return [*runner.read_history(table, task.committed_len - 1), task.pending_tokens[0]]


def _take(chosen: Iterator[Choice], rows: Sequence[DraftRow]) -> Iterator[Choice]:
    """Iterate over the choices of those rows that wished one."""
    return (next(chosen) for row in rows if row.head is not None)


def _finished(rounds: Sequence[DraftingRound], runner: DraftRunner) -> list[Draft]:
    """Return the drafts, with what their rows left behind, all of it read at once."""
    wishes = {index: wish for index, each in enumerate(rounds) if (wish := each.shadow_wish())}
    read = runner.read_shadow(list(wishes.values())) if wishes else []
    shadow = dict(zip(wishes, read, strict=True))
    return [each.to_draft(shadow.get(index, ())) for index, each in enumerate(rounds)]
