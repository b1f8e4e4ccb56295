"""A trial under way: which of its sets were looked at on which pieces, and what they chose."""

from dataclasses import dataclass, field

from services.verify.session import Session
from shared.control.skip_search.set_search import Trial
from shared.control.skip_search.windows import Piece
from shared.speculation.skip_set import SkipSet

NO_PIECE = Piece(0, 0)


@dataclass(slots=True)
class SearchJob:
    """One trial: the piece in hand, and what was told by pieces before."""

    trial: Trial
    matches: dict[SkipSet, int] = field(default_factory=dict)
    num_answers: int = 0
    session: Session | None = None
    piece: Piece = NO_PIECE
    in_hand: dict[SkipSet, int] = field(default_factory=dict)

    @property
    def num_looks_left(self) -> int:
        """Looks until all sets have seen the piece in hand."""
        return len(self.trial.sets) - len(self.in_hand)

    def next_set(self) -> SkipSet | None:
        """Return a set that has not seen the piece in hand; None: all have."""
        return next((each for each in self.trial.sets if each not in self.in_hand), None)

    def begin(self, session: Session, piece: Piece) -> None:
        """Take a piece in hand."""
        self.session, self.piece, self.in_hand = session, piece, {}

    def finish_piece(self) -> None:
        """Add the piece in hand to the window."""
        for each, count in self.in_hand.items():
            self.matches[each] = self.matches.get(each, 0) + count
        self.num_answers += self.piece.num_answers
        self.session = None

    def scores(self) -> dict[SkipSet, float]:
        """Return the share of answers that every set chose."""
        return {each: self.matches[each] / self.num_answers for each in self.trial.sets}
