"""The task streams of a cell, and the few sets that are live among them. Pure.

Sets of different streams read different weights, so few are in use at a time: those of the streams
that have had sessions for longest. Further streams draft with the nearest of these and go on
searching for their own.
"""

from collections.abc import Iterator
from zlib import crc32

from shared.control.skip_search.candidates import CandidateSource, Proposer
from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.set_search import SetSearch
from shared.control.skip_search.stream_record import Phase, StreamRecord
from shared.control.skip_search.task_stream import TaskStream
from shared.speculation.skip_set import SkipSet

# Streams without sessions that are remembered; the store knows them, too.
MAX_IDLE_STREAMS = 256


class StreamBook:
    """Knows streams by name; owned by one thread."""

    def __init__(self, options: SearchOptions, propose: Proposer, max_live_sets: int) -> None:
        self.options = options
        self._propose = propose
        self._max_live_sets = max_live_sets
        self._streams: dict[str, TaskStream] = {}

    def __iter__(self) -> Iterator[TaskStream]:
        return iter(self._streams.values())

    def num_by_phase(self) -> dict[str, float]:
        """Count streams by where their search stands; may be asked from any thread."""
        phases = [stream.record.phase for stream in list(self._streams.values())]
        return {phase.value: float(phases.count(phase)) for phase in Phase}

    def open(self, name: str) -> TaskStream:
        """Return a stream for one session more; one that is not known begins with the start set."""
        stream = self._stream(name)
        stream.num_sessions += 1
        if stream.num_sessions == 1:
            # Behind those that have had sessions for longer.
            self._streams[name] = self._streams.pop(name)
            self.share_sets()
        return stream

    def close(self, stream: TaskStream) -> None:
        """Take a session off a stream."""
        stream.num_sessions -= 1
        if not stream.num_sessions:
            self._forget_idle()
            self.share_sets()

    def adopt(self, name: str, record: StreamRecord) -> None:
        """Take a stream's record from the store, where it is further than what is known here."""
        if self._stream(name).adopt(record):
            self.share_sets()

    def neighbours(self, stream: TaskStream) -> list[SkipSet]:
        """Return the sets that the searches of other streams ended with."""
        return [
            each.record.skip_set
            for each in self
            if each is not stream and each.record.phase is Phase.LOCKED
        ]

    def share_sets(self) -> None:
        """Say what every stream drafts with; to be asked for when a record's set has changed."""
        live: list[SkipSet] = []
        for stream in self:
            if not stream.num_sessions:
                continue
            own = stream.record.skip_set
            if own not in live and len(live) < self._max_live_sets:
                live.append(own)
            stream.skip_set = min(live, key=own.distance)

    def take_changed(self) -> list[TaskStream]:
        """Return the streams that changed since the last call."""
        changed = [stream for stream in self if stream.is_changed]
        for stream in changed:
            stream.is_changed = False
        return changed

    def _stream(self, name: str) -> TaskStream:
        stream = self._streams.get(name)
        if stream is None:
            source = CandidateSource(self.options, crc32(name.encode()), self._propose)
            record = StreamRecord(self.options.start_set)
            stream = TaskStream(name, record, SetSearch(self.options, source))
            self._streams[name] = stream
        return stream

    def _forget_idle(self) -> None:
        idle = [each.name for each in self if not each.num_sessions and not each.is_changed]
        for name in idle[:-MAX_IDLE_STREAMS]:
            del self._streams[name]
