"""Which committed tokens sets are scored by. Pure.

    positions   0 ... P-1   P ........ P+o-1     ................ n-1
                prompt      opening, left out    [first ......... n)   answers y[first .. n-1]
    inputs                                    [first-1 ..... n-1)   each predicts the next

Answers are tokens of the reply that no window had before; the opening of a reply is unlike the rest
and is left out. A window is one piece of W answers, or several, also from different sessions, where
the replies of a stream are too short.
"""

from typing import NamedTuple

# Fewer answers are not worth a pass.
MIN_PIECE_LEN = 8
# An average reply moves by this share with every one.
REPLY_RATE = 1 / 8


class Piece(NamedTuple):
    """Answers [first, end) of a session's tokens."""

    first: int
    end: int

    @property
    def num_answers(self) -> int:
        """How many."""
        return self.end - self.first


def opening_len(window_len: int, reply_len: float) -> int:
    """Return how much of a reply's beginning is left out; reply_len 0: not known."""
    return min(window_len, int(reply_len / 2)) if reply_len else window_len


def next_piece(
    prompt_len: int,
    committed_len: int,
    scored_to: int,
    num_wanted: int,
    window_len: int,
    reply_len: float,
) -> Piece | None:
    """Return the last tokens of a session that may be scored, as many as are wanted if it can be.

    Args:
        prompt_len: P; committed_len: n.
        scored_to: end of what was scored of this session before.
        num_wanted: answers that the window still lacks.
        window_len: W.
        reply_len: average reply of the stream; where that is short, pieces may be, too.
    """
    opening = opening_len(window_len, reply_len)
    first = max(prompt_len + opening, scored_to, committed_len - num_wanted)
    piece = Piece(first, committed_len)
    if piece.num_answers >= num_wanted:
        return piece
    are_short = bool(reply_len) and reply_len < opening + window_len
    return piece if are_short and piece.num_answers >= MIN_PIECE_LEN else None


def moved_reply_len(reply_len: float, num_tokens: int) -> float:
    """Return the average reply after one more of so many tokens."""
    return reply_len + REPLY_RATE * (num_tokens - reply_len) if reply_len else float(num_tokens)
