"""Skip sets drawn anew for every round, whatever is left out."""

import random

from services.verify.session import Session
from shared.control.skip_search.candidates import CandidateSource
from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.set_search import SetSearch
from shared.control.skip_search.stream_record import StreamRecord
from shared.control.skip_search.task_stream import TaskStream
from shared.speculation.skip_set import SkipSet, num_open, random_set
from tests.model_builder import NUM_LAYERS

OPTIONS = SearchOptions(NUM_LAYERS)


def stream_of(skip_set: SkipSet) -> TaskStream:
    """Return a stream with a set in use."""
    source = CandidateSource(OPTIONS, 0, lambda observations, seed: None)
    return TaskStream("test", StreamRecord(skip_set), SetSearch(OPTIONS, source))


def draw_set(draw: random.Random) -> SkipSet:
    """Return a set of any size, the empty and the full one included."""
    return random_set(NUM_LAYERS, draw.randint(0, num_open(NUM_LAYERS)), draw)


def give_set(session: Session, draw: random.Random) -> None:
    """Let a session's next round skip a set drawn for it alone."""
    session.stream = stream_of(draw_set(draw))
