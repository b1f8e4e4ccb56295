"""A task stream: sessions with one kind of text, which share one skip set and its search."""

from collections.abc import Iterable

from shared.control.skip_search.set_search import SetSearch, Trial
from shared.control.skip_search.stream_record import Phase, StreamRecord
from shared.control.skip_search.windows import moved_reply_len
from shared.speculation.skip_set import SkipSet

# Trials over which what drafts are predicted to bring is averaged.
SPEEDUP_RATE = 1 / 8
# Sessions whose drafts are slow go without them by themselves: how slow these are does not matter.
LEAST_SPEEDUP = 0.9


class TaskStream:
    """One stream in a cell.

    skip_set: what its sessions draft with now: its own set, or another stream's where too many are
        live. Its record is its own in any case.
    """

    def __init__(self, name: str, record: StreamRecord, search: SetSearch) -> None:
        self.name = name
        self.record = record
        self.skip_set = record.skip_set
        self.num_sessions = 0
        # Changes of the record that no store has been told of.
        self.is_changed = False
        self._search = search
        self._rounds_since_window = 0
        self._speedup: float | None = None

    @property
    def version(self) -> int:
        """Of the record's set; it counts up with every new one."""
        return self.record.version

    @property
    def is_off(self) -> bool:
        """Whether its sessions go without drafts."""
        return self.record.phase is Phase.OFF

    def adopt(self, record: StreamRecord) -> bool:
        """Take a record from elsewhere where more candidates were tried; say whether it was."""
        if record.num_evaluations_ever <= self.record.num_evaluations_ever:
            return False
        self.record = record
        return True

    def next_trial(self, interval_rounds: int, neighbours: Iterable[SkipSet]) -> Trial | None:
        """Return the next trial, if it is time for one."""
        if self._rounds_since_window < interval_rounds:
            return None
        return self._search.next_trial(self.record, neighbours)

    def note_trial(self, trial: Trial, scores: dict[SkipSet, float]) -> None:
        """Take the scores of a trial."""
        self._rounds_since_window = 0
        self._search.note_trial(self.record, trial, scores)
        self.is_changed = True

    def note_speedup(self, predicted: float | None) -> None:
        """Take what drafts are predicted to bring one of its sessions; None: not known."""
        if predicted is not None:
            predicted = max(LEAST_SPEEDUP, predicted)
            was = predicted if self._speedup is None else self._speedup
            self._speedup = was + SPEEDUP_RATE * (predicted - was)
        self._search.give_up_if_slow(self.record, self._speedup)

    def note_round(self, skip_set: SkipSet, num_drafted: int, num_accepted: int) -> None:
        """Take a round of one of its sessions; no drafts: a plain one.

        What was drafted with another set says nothing of the stream's own.
        """
        self._rounds_since_window += 1
        if not num_drafted:
            self._search.note_plain_round(self.record)
        elif skip_set == self.record.skip_set:
            self._search.note_round(self.record, num_drafted, num_accepted)
            self.is_changed = True

    def note_reply(self, num_tokens: int) -> None:
        """Take the length of a reply that has ended."""
        if num_tokens:
            self.record.reply_len = moved_reply_len(self.record.reply_len, num_tokens)
            self.is_changed = True
