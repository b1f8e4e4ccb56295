"""Who answers for what drafts take where sessions share steps."""

from collections.abc import Sequence

from shared.control.evidence.evidence_book import EvidenceBook
from shared.control.evidence.observation import Observation, Read
from shared.control.session_files import SessionFiles
from shared.control.steps import RoundOutcome, SessionLoad
from shared.speculation.vocabulary import LAYERSKIP, PLAIN_DECISION, Decision

WISHED = Decision(LAYERSKIP, 2, 8)
PLAIN_NS = 10.0


def files_of(num_sessions: int) -> tuple[SessionFiles, list[SessionLoad]]:
    files, loads = SessionFiles(EvidenceBook(())), []
    for index in range(num_sessions):
        loads.append(SessionLoad(f"s{index}", WISHED))
        files.open(loads[-1])
    return files, loads


def stopped(drafts: Sequence[tuple[int, int]], ns: float, num_rounds: int = 200) -> set[str]:
    """Return whose guards trip where each session makes (drafted, accepted) in every step."""
    files, loads = files_of(len(drafts))
    found: set[str] = set()
    for _ in range(num_rounds):
        rounds = [
            RoundOutcome(load.key, WISHED if k else PLAIN_DECISION, k, kept, kept + 1)
            for load, (k, kept) in zip(loads, drafts, strict=True)
        ]
        files.note_times(rounds, ns, PLAIN_NS)
        found |= files.blocked(loads)
    return found


def test_a_session_alone_is_stopped_where_its_rounds_are_slower_than_plain_steps() -> None:
    assert stopped([(4, 1)], 2.2 * PLAIN_NS) == {"s0"}
    assert stopped([(4, 1)], 1.9 * PLAIN_NS) == set()


def test_a_hard_text_is_not_stopped_for_what_the_drafts_of_easy_ones_take() -> None:
    # It commits 1.4 plain steps' worth of tokens less than plain steps would, by others' drafts.
    assert stopped([(8, 8), (8, 8), (8, 8), (1, 0)], 2.4 * PLAIN_NS) == {"s3"}
    assert stopped([(8, 8), (8, 8), (8, 8), (2, 1)], 2.4 * PLAIN_NS) == set()


def test_long_drafts_of_a_hard_text_are_stopped_and_the_others_go_on() -> None:
    assert stopped([(8, 8), (8, 8), (8, 8), (8, 1)], 2.4 * PLAIN_NS) == {"s3"}


def test_who_drafts_nothing_answers_for_nothing() -> None:
    assert stopped([(8, 1), (0, 0)], 3.0 * PLAIN_NS) == {"s0"}


def test_plain_steps_that_are_not_known_stop_nobody() -> None:
    files, loads = files_of(1)
    for _ in range(200):
        files.note_times([RoundOutcome("s0", WISHED, 8, 0, 1)], 9.0 * PLAIN_NS, 0.0)
    assert not files.blocked(loads)


def test_a_session_that_ends_leaves_nothing_but_what_it_taught() -> None:
    files, [load] = files_of(1)
    reads: list[Read | None] = [Read(True, 0.9)] * 100
    outcome = RoundOutcome(load.key, WISHED, 8, 8, 100, Observation(100, {2: reads}))
    files.note(outcome, off_arm=0)
    files.forget(load.key)
    assert load.key not in files
    assert not files._kinds
    assert files.book.prior("greedy").rates_of(2)[0] > 0.85
