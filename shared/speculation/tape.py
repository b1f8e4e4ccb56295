"""The tape of a text: what every exit said along it, and rounds replayed over that. Pure.

Decoding emits the same text whatever is drafted, so one pass over a finished text tells all that
drafting could have done there: an exit reads the same rows as it would in a round, up to the first
draft that the target would not have chosen, and nothing behind that draft is ever kept.

    text        prompt [0, P)   g_0       g_1 ................. g_N
    tape                        -         0 ................... N-1
    round at i                  pending   drafts for [i, i+k); m kept; i' = i + m + 1

g_0 comes from the prefill and is no round's. Of a round at i the kept drafts m, the emitted tokens
and so the next i are exact for every exit, draft length and stop threshold. The draft length k is
exact too where drafting stops no later than at its first wrong token. Behind that the draft runs on
a text of its own: the tape's confidences at the same places stand in for the unknown ones, and a
wrong stop token, which would end the draft, goes unseen.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import log
from typing import NamedTuple

from shared.speculation.vocabulary import SpeculationSummary

LEAST_CHANCE = 1e-12


@dataclass(frozen=True)
class ExitTrack:
    """One exit along one text.

    matches: whether the exit's choice is the text's token, place by place.
    confidences: of the exit's choices, in [0, 1]; the measure that stop thresholds are for.
    chances: of the same, that the full model agrees, as the exit tells it; may be left out.

    Raises:
        ValueError: the two differ in length.
    """

    matches: Sequence[bool]
    confidences: Sequence[float]
    chances: Sequence[float] = ()
    _draft_lens: dict[float, list[int | None]] = field(
        default_factory=dict, repr=False, compare=False
    )
    _path_lens: dict[float, list[int | None]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if len(self.matches) != len(self.confidences):
            raise ValueError(f"{len(self.matches)} matches, {len(self.confidences)} confidences")
        if self.chances and len(self.chances) != len(self.matches):
            raise ValueError(f"{len(self.matches)} matches, {len(self.chances)} chances")

    @cached_property
    def run_lens(self) -> list[int]:
        """How many choices in a row match, from each place on."""
        run_lens = [0] * len(self.matches)
        run_len = 0
        for index in reversed(range(len(self.matches))):
            run_len = run_len + 1 if self.matches[index] else 0
            run_lens[index] = run_len
        return run_lens

    @cached_property
    def by_chance(self) -> "ExitTrack":
        """The same, of an exit that tells chances in the place of confidences.

        Raises:
            ValueError: the chances were left out.
        """
        if not self.chances and self.matches:
            raise ValueError("this track holds no chances: record it again")
        return ExitTrack(self.matches, self.chances)

    def path_lens(self, stop_threshold: float) -> list[int | None]:
        """How many drafts are made from each place on, whose confidences are chances.

        The draft whose path has a chance below the threshold is the last and counts. None where
        that comes behind the end, and everywhere for 0.
        """
        if stop_threshold not in self._path_lens:
            self._path_lens[stop_threshold] = self._count_paths(stop_threshold)
        return self._path_lens[stop_threshold]

    def _count_paths(self, stop_threshold: float) -> list[int | None]:
        num_places = len(self.confidences)
        if stop_threshold <= 0.0:
            return [None] * num_places
        # Of all places before: what a path from one to another has is a difference.
        logs = [0.0]
        for chance in self.confidences:
            logs.append(logs[-1] + log(max(chance, LEAST_CHANCE)))
        path_lens: list[int | None] = []
        least, end = log(stop_threshold), 1
        for place in range(num_places):
            end = max(end, place + 1)
            while end <= num_places and logs[end] - logs[place] >= least:
                end += 1
            path_lens.append(end - place if end <= num_places else None)
        return path_lens

    def draft_lens(self, stop_threshold: float) -> list[int | None]:
        """How many drafts are made from each place on; None where confidence never stops them.

        The draft whose confidence is below the threshold is the last and counts.
        """
        if stop_threshold not in self._draft_lens:
            self._draft_lens[stop_threshold] = self._count_drafts(stop_threshold)
        return self._draft_lens[stop_threshold]

    def _count_drafts(self, stop_threshold: float) -> list[int | None]:
        draft_lens: list[int | None] = [None] * len(self.confidences)
        draft_len: int | None = None
        for index in reversed(range(len(self.confidences))):
            if self.confidences[index] < stop_threshold:
                draft_len = 1
            elif draft_len is not None:
                draft_len += 1
            draft_lens[index] = draft_len
        return draft_lens


@dataclass(frozen=True)
class Tape:
    """Every exit along one text of num_tokens tokens.

    num_unused: tokens that the request's limit still allowed when the text ended with a stop token;
        0 where the limit itself ended it.

    Raises:
        ValueError: a track is not as long as the text.
    """

    num_tokens: int
    tracks: Mapping[int, ExitTrack]
    num_unused: int = 0

    def __post_init__(self) -> None:
        for exit_layer, track in self.tracks.items():
            if len(track.matches) != self.num_tokens:
                raise ValueError(
                    f"exit {exit_layer} has {len(track.matches)} places, the text {self.num_tokens}"
                )


class TapeRound(NamedTuple):
    """One round: k drafts for places from `start` on, m of them kept, m + 1 tokens emitted.

    The last round emits m where the kept drafts end the text; k = 0 is a plain round.
    """

    start: int
    draft_len: int
    num_accepted: int
    num_emitted: int


def rounds_of(
    tape: Tape, exit_layer: int, draft_len: int, stop_threshold: float = 0.0
) -> Iterator[TapeRound]:
    """Replay a static setting over a tape, round by round.

    As in decoding, a round drafts one token less than the request still allows, a draft ends behind
    a stop token, and the token whose confidence stopped the draft is verified with the others.

    Args:
        tape: the text.
        exit_layer: the exit that drafts, one of the tape's.
        draft_len: most drafts per round; 0 gives plain rounds.
        stop_threshold: drafting stops behind a confidence below this.

    Raises:
        ValueError: the tape has no such exit, or the draft length is negative.
    """
    if exit_layer not in tape.tracks:
        raise ValueError(f"the tape has no exit {exit_layer}")
    if draft_len < 0:
        raise ValueError(f"draft length must not be negative, not {draft_len}")
    track = tape.tracks[exit_layer]
    run_lens, stops = track.run_lens, track.draft_lens(stop_threshold)
    start = 0
    while start < tape.num_tokens:
        num_left = tape.num_tokens - start
        num_drafted = min(draft_len, num_left + tape.num_unused - 1)
        stop, run_len = stops[start], run_lens[start]
        if stop is not None and stop < num_drafted:
            num_drafted = stop
        if run_len == num_left:
            num_drafted = min(num_drafted, run_len)
        num_accepted = min(num_drafted, run_len)
        num_emitted = min(num_accepted + 1, num_left)
        yield TapeRound(start, num_drafted, num_accepted, num_emitted)
        start += num_emitted


@dataclass(frozen=True)
class Replay:
    """Counts of rounds by (draft_len, num_accepted, num_emitted), over one text or many."""

    rounds: Mapping[tuple[int, int, int], int]

    @property
    def num_rounds(self) -> int:
        """All rounds, plain ones included."""
        return sum(self.rounds.values())

    @property
    def num_tokens(self) -> int:
        """Tokens emitted by all rounds."""
        return sum(emitted * count for (_, _, emitted), count in self.rounds.items())

    @property
    def rounds_by_draft_len(self) -> dict[int, int]:
        """Rounds by k, plain ones under 0: what a mean cost is made of."""
        by_draft_len: Counter[int] = Counter()
        for (draft_len, _, _), count in self.rounds.items():
            by_draft_len[draft_len] += count
        return dict(by_draft_len)

    @cached_property
    def summary(self) -> SpeculationSummary:
        """The same as a session's own counts."""
        summary = SpeculationSummary()
        for (draft_len, num_accepted, num_emitted), count in self.rounds.items():
            for _ in range(count):
                summary.count(draft_len, num_accepted, num_emitted)
        return summary

    def survival(self, max_draft_len: int) -> list[float]:
        """Return S(j) for j in [1, max_draft_len]: rounds with a draft whose first j were all kept.

        A share of all rounds with a draft, those that stopped before j included; 0 without any.
        """
        histogram, num_drafts = self.summary.acceptance_histogram, self.summary.num_drafts
        return [
            sum(histogram[position:]) / num_drafts if num_drafts else 0.0
            for position in range(1, max_draft_len + 1)
        ]


def replay(tape: Tape, exit_layer: int, draft_len: int, stop_threshold: float = 0.0) -> Replay:
    """Count the rounds of a static setting; arguments and errors are those of `rounds_of`."""
    return Replay(
        Counter(each[1:] for each in rounds_of(tape, exit_layer, draft_len, stop_threshold))
    )


def sum_replays(replays: Iterable[Replay]) -> Replay:
    """Add the counts of many texts."""
    total: Counter[tuple[int, int, int]] = Counter()
    for each in replays:
        total.update(each.rounds)
    return Replay(total)
