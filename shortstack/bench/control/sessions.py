"""Sessions to replay, made of recorded texts. Pure.

Texts of one kind are joined until a session is long enough for what is asked of it: a model that
stops early, or one with a short context, makes no text of 200 rounds.
"""

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise, permutations, zip_longest

from shared.control.replay.texts import RecordedText, cut, join

SHIFT_SETTLE_TOKENS = 100


def by_kind(texts: Sequence[RecordedText]) -> dict[str, list[RecordedText]]:
    """Group texts by kind, in the order of their first appearance."""
    kinds: dict[str, list[RecordedText]] = {}
    for text in texts:
        kinds.setdefault(text.kind, []).append(text)
    return kinds


def long_sessions(texts: Sequence[RecordedText], num_tokens: int) -> list[RecordedText]:
    """Join texts of one kind, each used once, into sessions of at least so many tokens.

    What is left at the end is no session of its own, unless it is all there is.
    """
    sessions: list[RecordedText] = []
    waiting: list[RecordedText] = []
    for text in texts:
        waiting.append(text)
        if sum(each.tape.num_tokens for each in waiting) >= num_tokens:
            sessions.append(_one_subject(waiting))
            waiting = []
    return sessions or [_one_subject(waiting)]


def _one_subject(texts: Sequence[RecordedText]) -> RecordedText:
    joined = join(texts)
    return RecordedText(joined.text_id, texts[0].kind, joined.tape, joined.prompt)


def mixed(sessions: Mapping[str, Sequence[RecordedText]]) -> list[RecordedText]:
    """Return all sessions, the kinds taking turns."""
    turns = chain.from_iterable(zip_longest(*sessions.values()))
    return [each for each in turns if each is not None]


def shifted(sessions: Mapping[str, Sequence[RecordedText]], num_tokens: int) -> list[RecordedText]:
    """Return a session for every ordered pair of kinds that changes from one to the other midway.

    Args:
        sessions: by kind, each at least half as long as wanted; shorter ones are left out.
        num_tokens: of a session.
    """
    half = num_tokens // 2
    first = {
        kind: next((each for each in own if each.tape.num_tokens >= half), None)
        for kind, own in sessions.items()
    }
    halves = {kind: cut(text, 0, half) for kind, text in first.items() if text is not None}
    return [join([halves[a], halves[b]]) for a, b in permutations(halves, 2)]


def segments(text: RecordedText) -> list[RecordedText]:
    """Return the parts of a session between its shifts."""
    edges = [0, *text.shifts, text.tape.num_tokens]
    return [cut(text, start, end) for start, end in pairwise(edges)]
