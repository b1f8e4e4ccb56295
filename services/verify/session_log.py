"""The session log: what the controller decided for each session, round by round, for those who ask.

    engine's thread   open --note, note, ..--> end          a few microseconds a round, no lock
    event loop        states, timeline                      copies of what is there now

Keeps the running sessions and the last that ended, of each its last rounds. Decides nothing, and
nothing is decided by it.
"""

from collections import deque

from services.verify.session import Session
from services.verify.session_track import RoundRecord, SessionState, SessionTrack, Totals
from shared.control.policies import static
from shared.errors import SessionNotFound
from shared.ids import SessionId
from shared.speculation.vocabulary import Decision, FinishReason

MAX_ENDED = 64


class SessionLog:
    """Written by the engine's thread alone; `states` and `timeline` may be called from any."""

    def __init__(self) -> None:
        self._running: dict[SessionId, SessionTrack] = {}
        self._ended: deque[SessionTrack] = deque(maxlen=MAX_ENDED)

    # --- the engine's thread --------------------------------------------------------------------

    def open(self, session: Session, policy: str = static.NAME) -> bool:
        """Begin with a session; False and nothing if it was begun with before it lost its pages."""
        if session.session_id in self._running:
            return False
        request = session.request
        self._running[session.session_id] = SessionTrack(
            request.session_id,
            request.tenant,
            policy,
            session.prompt_len,
            request.wished,
            session.arrived_ns,
            Totals(session.committed_len),
        )
        return True

    def note(
        self,
        session: Session,
        decision: Decision,
        draft_len: int,
        num_accepted: int,
        num_emitted: int,
        now_ns: int,
        *,
        is_alarm: bool = False,
    ) -> int:
        """Take a round that the session has just committed; it is open, and not ended yet.

        Args:
            session: its round_index is that of the next round, its tokens are this one's too.
            decision: as decided, also where the draft was lost.
            draft_len: drafts verified; num_accepted of them were the target's own choice.
            num_emitted: tokens committed, cut at the end of the session.
            now_ns: when, on the clock of session.arrived_ns.
            is_alarm: what the round showed set off the change alarm.

        Returns:
            The time since the session's commit before it, ns.
        """
        track = self._running[session.session_id]
        tokens_len = session.committed_len
        since_ns = track.last_commit_ns or session.first_token_ns or now_ns
        track.last_commit_ns = now_ns
        round_ns = now_ns - since_ns
        track.note(
            RoundRecord(
                session.round_index - 1,
                tokens_len - num_emitted,
                now_ns - track.arrived_ns,
                decision,
                draft_len,
                num_accepted,
                num_emitted,
                is_alarm,
                round_ns,
            ),
            tokens_len,
        )
        return round_ns

    def end(self, session: Session, reason: FinishReason) -> None:
        """Move a session to those that ended; the oldest of them goes.

        Nothing if it was never opened: it was cancelled in its prompt.
        """
        track = self._running.get(session.session_id)
        if track is None:
            return
        # A session may end by its first token, which is no round.
        track.totals = track.totals._replace(tokens_len=session.committed_len)
        track.finish_reason = reason
        # In this order nobody who looks meanwhile finds it in neither place.
        self._ended.append(track)
        del self._running[session.session_id]

    # --- any thread -----------------------------------------------------------------------------

    def states(self, *, with_ended: bool = False) -> list[SessionState]:
        """Return how the sessions stand: running ones by age, then ended ones, the last first."""
        return [track.state() for track in self._tracks(with_ended)]

    def timeline(self, session_id: SessionId) -> tuple[SessionState, list[RoundRecord]]:
        """Return a session and its last rounds, oldest first.

        Args:
            session_id: as its gateway named it. Of several with one id: a running one, else the
                last that ended.

        Raises:
            SessionNotFound: it is not here, or ended too long ago.
        """
        for track in self._tracks(with_ended=True):
            if track.session_id == session_id:
                return track.state(), track.rounds()
        raise SessionNotFound(
            f"no session {session_id!r}: it neither runs here nor is it among the last"
            f" {MAX_ENDED} that ended"
        )

    def _tracks(self, with_ended: bool) -> list[SessionTrack]:
        running = sorted(self._running.copy().values(), key=lambda track: track.arrived_ns)
        ended = list(reversed(self._ended.copy()))
        # One that ended between the two copies is in both.
        running = [track for track in running if track not in ended]
        return [*running, *ended] if with_ended else running
