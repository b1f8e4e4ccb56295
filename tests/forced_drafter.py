"""A fused drafter whose drafts are right for as long as the test wants, and wrong from there on."""

from collections.abc import Callable, Sequence

from services.verify.drafter import DraftsArrived, Inbox
from shared.ids import TokenId
from shared.model.draft_runner import StackDraftRunner
from shared.speculation.drafting import draft_rounds
from shared.speculation.methods.base import Choice, DraftRow
from shared.speculation.vocabulary import RoundTask
from tests.engine_harness import EngineHarness


class ForcedRunner(StackDraftRunner):
    """Runs the layers as ever; only the tokens it reports are forced."""

    def __init__(self, cell: EngineHarness, text: Sequence[int]) -> None:
        super().__init__(cell.stack, cell.pool)
        self._text = text
        self._vocab_size = cell.stack.config.vocab_size
        self.num_right = 0

    def step(self, rows: Sequence[DraftRow]) -> list[Choice]:
        """Report the true token for the first `num_right` drafts, another one behind them."""
        choices = super().step(rows)
        heads = [row for row in rows if row.head is not None]
        for index, row in enumerate(heads):
            token = self._text[row.position + 1]
            if row.row_index >= self.num_right:
                token = 3 + (token + 1) % (self._vocab_size - 3)
            choices[index] = choices[index]._replace(token_id=TokenId(token))
        return choices


class ForcedDrafter:
    """Drafts with a `ForcedRunner`; `num_right` says how many drafts of a round are right."""

    def __init__(
        self,
        cell: EngineHarness,
        inbox: Inbox,
        text: Sequence[int],
        num_right: Callable[[RoundTask], int],
    ) -> None:
        self._runner = ForcedRunner(cell, text)
        self._inbox = inbox
        self._num_right = num_right

    def send(self, tasks: Sequence[RoundTask]) -> None:
        """Draft at once."""
        for task in tasks:
            self._runner.num_right = self._num_right(task)
            drafts = draft_rounds([task], self._runner)
            self._inbox(DraftsArrived(tuple(drafts)))

    def close(self) -> None:
        """Nothing runs."""
