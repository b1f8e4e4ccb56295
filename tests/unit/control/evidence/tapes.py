"""Texts with all that every exit would have said of them, and real rounds cut out of these.

Token ids are positions: the text's own token at t is t, a wrong choice there is -1 - t.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from shared.control.evidence.observation import Observation, Read, observe
from shared.ids import SessionId, TokenId
from shared.speculation.vocabulary import Draft, ShadowRead


@dataclass(frozen=True)
class Text:
    """By exit, whether its choice is the text's and how sure it is, position by position."""

    matches: dict[int, list[bool]]
    confidences: dict[int, list[float]]

    @property
    def num_tokens(self) -> int:
        return len(next(iter(self.matches.values())))

    def choice(self, exit_layer: int, position: int) -> TokenId:
        """Behind the end every choice is right, which must not be counted."""
        is_match = position >= self.num_tokens or self.matches[exit_layer][position]
        return TokenId(position if is_match else -1 - position)

    def confidence(self, exit_layer: int, position: int) -> float:
        return self.confidences[exit_layer][position] if position < self.num_tokens else 1.0


@dataclass(frozen=True)
class Arm:
    """What one round does; is_full: all exits are read."""

    exit_layer: int
    draft_len: int
    stop_threshold: float = 0.0
    is_full: bool = True


def random_text(random: Random, rates: dict[int, float], num_tokens: int) -> Text:
    """Matches by rate; confidences that tell something of them."""
    matches = {e: [random.random() < rate for _ in range(num_tokens)] for e, rate in rates.items()}
    confidences = {
        e: [0.5 * random.random() + (0.5 if is_match else 0.2) for is_match in row]
        for e, row in matches.items()
    }
    return Text(matches, confidences)


def observations(text: Text, next_arm: Callable[[], Arm]) -> Iterator[Observation]:
    """Run rounds over the whole text, each by its arm, as workers would."""
    start = 0
    while start < text.num_tokens:
        observation = round_at(text, start, next_arm())
        yield observation
        start += observation.num_positions


def round_at(text: Text, start: int, arm: Arm) -> Observation:
    """One round from a position on, cut at the end of the text, as by an end token.

    Behind its first wrong draft an exit is made to say what the text says: rows off the path that
    would raise its counts if they were taken.
    """
    num_left = text.num_tokens - start
    draft = _draft(text, start, arm, min(arm.draft_len, num_left))
    num_drafted = len(draft.draft_tokens) if draft else 0
    num_accepted = 0
    while (
        num_accepted < num_drafted
        and text.choice(arm.exit_layer, start + num_accepted) == start + num_accepted
    ):
        num_accepted += 1
    rows = range(num_drafted + 1)
    path = range(num_accepted + 1)
    shadow = []
    for exit_layer in text.matches:
        is_drafter = draft is not None and exit_layer == arm.exit_layer
        if not (is_drafter or arm.is_full):
            continue
        first_row = num_drafted if is_drafter else 0
        read = rows[first_row:]
        shadow.append(
            ShadowRead(
                exit_layer,
                tuple(
                    text.choice(exit_layer, start + row) if row in path else TokenId(start + row)
                    for row in read
                ),
                tuple(text.confidence(exit_layer, start + row) for row in read),
                first_row,
            )
        )
    committed = [TokenId(start + row) for row in path[:num_left]]
    return observe(committed, arm.exit_layer, draft, shadow)


def _draft(text: Text, start: int, arm: Arm, max_len: int) -> Draft | None:
    tokens: list[TokenId] = []
    confidences: list[float] = []
    is_on_path = True
    for position in range(start, start + max_len):
        token = text.choice(arm.exit_layer, position) if is_on_path else TokenId(position)
        tokens.append(token)
        confidences.append(text.confidence(arm.exit_layer, position))
        is_on_path = is_on_path and token == position
        if confidences[-1] < arm.stop_threshold:
            break
    if not tokens:
        return None
    return Draft(SessionId("s"), 0, tuple(tokens), tuple(confidences))


def plain_observation(bits: dict[int, Sequence[bool | int | None]]) -> Observation:
    """Bits of some exits as one round; None where an exit was not read."""
    reads = {
        e: [None if bit is None else Read(bool(bit), 0.5) for bit in row] for e, row in bits.items()
    }
    return Observation(len(next(iter(bits.values()))), reads)
