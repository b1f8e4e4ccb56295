"""What drafts with a skip set are predicted to bring: by drafts, by scores, or not at all."""

import pytest

from services.verify.session import Session
from services.verify.set_speed import SKIPPING, predicted_speedup
from shared.control.evidence.observation import Observation, Read
from shared.control.load_governor import LoadGovernor
from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.stream_record import StreamRecord
from shared.control.step_costs import StepCosts
from shared.control.steps import SessionLoad
from shared.speculation.vocabulary import SWIFT, Decision
from tests.unit.verify.builders import make_session

MS = 1_000_000


@pytest.fixture
def session() -> Session:
    return make_session("s", num_generated=1)


@pytest.fixture
def governor(session: Session) -> LoadGovernor:
    """A machine on which a draft step takes half a plain step, and rows cost nothing."""
    governor = LoadGovernor(StepCosts(num_layers=4))
    governor.sessions.open(SessionLoad(session.session_id, Decision(SWIFT, 0, 8), arms=(SKIPPING,)))
    for _ in range(40):
        for num_rows in range(1, 10):
            governor.costs.note_pass({0: num_rows}, 10 * MS)
        for num_drafts in (1, 3, 7):
            governor.costs.note_draft(SKIPPING, 1, num_drafts, 5 * (num_drafts + 1) * MS)
    return governor


def record_of(score: float | None) -> StreamRecord:
    record = StreamRecord(SearchOptions(num_layers=4).start_set)
    record.scores = [] if score is None else [score] * 4
    return record


def test_nothing_is_predicted_of_what_nobody_knows(
    governor: LoadGovernor, session: Session
) -> None:
    assert predicted_speedup(governor, session, record_of(None)) is None
    unmeasured = LoadGovernor(StepCosts(num_layers=4))
    assert predicted_speedup(unmeasured, session, record_of(0.9)) is None


def test_scores_tell_of_a_set_before_it_has_drafted(
    governor: LoadGovernor, session: Session
) -> None:
    # A phase of k drafts has k + 1 steps. Five drafts are best: 4.7 tokens in 4 plain steps.
    found = predicted_speedup(governor, session, record_of(0.9))
    assert found == pytest.approx(sum(0.9**k for k in range(6)) / 4.0, rel=0.02)
    hopeless = predicted_speedup(governor, session, record_of(0.3))
    assert hopeless == pytest.approx(1.3 / 2.0, rel=0.05)


def test_what_drafts_showed_counts_where_it_is_better(
    governor: LoadGovernor, session: Session
) -> None:
    reads = [Read(True, 0.9)] * 8 + [None]
    for _ in range(30):
        governor.sessions.book.note(session.session_id, Observation(9, {SKIPPING: reads}), None)
    found = predicted_speedup(governor, session, record_of(0.3))
    assert found is not None and found > 1.3
