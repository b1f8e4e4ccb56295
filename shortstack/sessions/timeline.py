"""One session's rounds made readable: stretches of one setting, and smoothed acceptance."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from shortstack.sessions.values import Round

# Rounds with a draft over which acceptance is smoothed.
MEMORY_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rounds in a row under one setting; plain ones also for one reason. Never empty."""

    rounds: tuple[Round, ...]

    @property
    def first(self) -> Round:
        """The first of them; its setting is that of all."""
        return self.rounds[0]

    @property
    def last(self) -> Round:
        """The last of them."""
        return self.rounds[-1]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Their reasons, each once."""
        return tuple(dict.fromkeys(each.reason for each in self.rounds))

    @property
    def num_draft_tokens(self) -> int:
        """Draft tokens verified."""
        return sum(each.draft_len for each in self.rounds)

    @property
    def num_accepted_tokens(self) -> int:
        """Of these, those that were kept."""
        return sum(each.num_accepted for each in self.rounds)

    @property
    def num_emitted(self) -> int:
        """Tokens emitted."""
        return sum(each.num_emitted for each in self.rounds)

    @property
    def mean_round_ms(self) -> float:
        """Time of a round."""
        return sum(each.round_ns for each in self.rounds) / len(self.rounds) / 1e6

    @property
    def num_alarms(self) -> int:
        """Change alarms."""
        return sum(each.is_alarm for each in self.rounds)


def stretches(rounds: Iterable[Round]) -> list[Stretch]:
    """Cut rounds where their setting changes."""
    return [Stretch(tuple(each)) for _, each in groupby(rounds, _setting)]


def _setting(each: Round) -> tuple[object, ...]:
    why = each.reason if each.is_plain else ""
    setting = (each.method, each.exit_layer, each.max_draft_len, each.stop_threshold)
    return (each.is_plain, *setting, why)


def smoothed_acceptance(rounds: Sequence[Round]) -> list[float | None]:
    """Return the share of drafts accepted about each round; None where it had no draft.

    A ratio of sums that fade alike: a round counts by its drafts. Plain rounds neither add to it
    nor make it fade.
    """
    keep = 1 - 1 / MEMORY_ROUNDS
    num_drafted = num_accepted = 0.0
    shares: list[float | None] = []
    for each in rounds:
        if each.is_plain:
            shares.append(None)
            continue
        num_drafted = keep * num_drafted + each.draft_len
        num_accepted = keep * num_accepted + each.num_accepted
        shares.append(num_accepted / num_drafted)
    return shares
