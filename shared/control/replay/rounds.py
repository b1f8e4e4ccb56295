"""One round of one session over its tape: what it keeps, and what it shows. Pure.

Kept drafts, emitted tokens and the next place are exact for every exit, length and threshold; the
draft length is exact without a threshold, else as good as `shared.speculation.tape` says.
"""

from collections.abc import Collection

from shared.control.evidence.observation import Observation, Read
from shared.control.policies.static import Limits
from shared.speculation.tape import ExitTrack, Tape, TapeRound
from shared.speculation.vocabulary import Decision

# A recorded text ends by its own limit, never for want of context or rows.
AMPLE = 1 << 20


def limits_at(tape: Tape, start: int) -> Limits:
    """Return the room of a session whose next token is at this place."""
    return Limits(tape.num_tokens - start + tape.num_unused, AMPLE, AMPLE)


def play_round(tape: Tape, start: int, decision: Decision) -> TapeRound:
    """Play the round that begins at a place of the tape.

    As in decoding, a round drafts one token less than the request still allows, and a draft ends
    behind a stop token.

    Raises:
        ValueError: the tape has no such exit.
    """
    num_left = tape.num_tokens - start
    if decision.is_off:
        return TapeRound(start, 0, 0, 1)
    track = tape.tracks.get(decision.exit_layer)
    if track is None:
        raise ValueError(f"the tape has no exit {decision.exit_layer}")
    run_len = track.run_lens[start]
    num_drafted = min(decision.max_draft_len, num_left + tape.num_unused - 1)
    if decision.stop_threshold > 0.0:
        lens = track.path_lens if decision.by_chance else track.draft_lens
        stop = lens(decision.stop_threshold)[start]
        num_drafted = num_drafted if stop is None else min(num_drafted, stop)
    if run_len == num_left:
        num_drafted = min(num_drafted, run_len)
    num_accepted = min(num_drafted, run_len)
    return TapeRound(start, num_drafted, num_accepted, min(num_accepted + 1, num_left))


def look(tape: Tape, played: TapeRound, decision: Decision, reads: Collection[int]) -> Observation:
    """Return what a round shows of the places that it emitted.

    The exit that drafted shows its drafts for nothing; the place behind a draft that was kept whole
    only if that exit is read there too.

    Args:
        tape: the text; an exit that was not recorded shows nothing.
        played: the round.
        decision: as carried out.
        reads: exits read at all rows, the drafting one behind its last draft.
    """
    end = played.start + played.num_emitted
    seen = {e: _reads(tape.tracks[e], played.start, end) for e in reads if e in tape.tracks}
    own = decision.exit_layer
    if played.draft_len and own not in seen:
        num_seen = min(played.num_emitted, played.draft_len)
        shown = _reads(tape.tracks[own], played.start, played.start + num_seen)
        seen[own] = shown + [None] * (played.num_emitted - num_seen)
    return Observation(played.num_emitted, seen)


def _reads(track: ExitTrack, start: int, end: int) -> list[Read | None]:
    matches, confidences = track.matches, track.confidences
    return [Read(matches[place], confidences[place]) for place in range(start, end)]
