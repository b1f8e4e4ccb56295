"""Tuning: when a session's setting is found anew, from which positions, and what it is then."""

from random import Random

import pytest

from shared.control.evidence.observation import Observation, Read
from shared.control.evidence.prior import Prior
from shared.control.evidence.session_evidence import SessionEvidence
from shared.control.threshold_replay import Setting
from shared.control.tuning import TUNE_POSITIONS, Tuning

EXIT, OTHER = 3, 4
GREEDY = "greedy"


def evidence() -> SessionEvidence:
    return SessionEvidence((EXIT, OTHER), Prior.none((EXIT, OTHER)))


def note(known: SessionEvidence, bits: str, *, sure: float = 0.99, unsure: float = 0.1) -> None:
    """Let an exit be right where there is a 1, and sure of itself exactly there."""
    reads = [Read(bit == "1", sure if bit == "1" else unsure) for bit in bits]
    known.note(Observation(len(bits), {EXIT: reads}), None)


def round_ns(draft_len: int) -> float:
    return 10.0 + 2.0 * draft_len


def tuned(tuning: Tuning, known: SessionEvidence, key: str = "s") -> Setting | None:
    """Return the setting of the next draft, when all that is due was done."""
    tuning.setting(key, EXIT, GREEDY, 12, known, round_ns)
    tuning.tune()
    return tuning.setting(key, EXIT, GREEDY, 12, known, round_ns)


def text(seed: int, num_positions: int, rate: float = 0.8) -> str:
    random = Random(seed)
    return "".join("1" if random.random() < rate else "0" for _ in range(num_positions))


def test_the_first_session_drafts_as_planned_while_it_is_young() -> None:
    known, tuning = evidence(), Tuning()
    note(known, "1" * (TUNE_POSITIONS - 1))
    assert tuned(tuning, known) is None


def test_where_the_exit_knows_its_mistakes_drafts_are_long_and_stop_there() -> None:
    known, tuning = evidence(), Tuning()
    note(known, text(1, 96))
    setting = tuned(tuning, known)
    assert setting is not None
    assert setting.draft_len > 4
    assert setting.stop_threshold > 0.0


def test_where_everything_matches_drafts_are_long() -> None:
    known, tuning = evidence(), Tuning()
    note(known, "1" * 96)
    setting = tuned(tuning, known)
    assert setting is not None
    assert setting.draft_len > 4


def test_a_session_begins_with_what_was_best_in_the_others() -> None:
    known, tuning = evidence(), Tuning()
    note(known, text(1, 192))
    first = tuned(tuning, known)
    tuning.forget("s")
    assert tuned(tuning, evidence(), "another") == first


def test_others_are_outweighed_by_what_a_session_shows_itself() -> None:
    tuning = Tuning()
    for key in ("a", "b", "c"):
        known = evidence()
        note(known, "1" * 192)
        assert tuned(tuning, known, key) is not None
        tuning.forget(key)
    known = evidence()
    note(known, "0" * 250)
    setting = tuned(tuning, known, "hard")
    assert setting is not None
    assert setting.draft_len == 1 or setting.stop_threshold > 0.0


def test_a_setting_is_kept_until_there_are_enough_new_positions() -> None:
    known, tuning = evidence(), Tuning()
    note(known, "1" * 64)
    first = tuned(tuning, known)
    note(known, "0" * (TUNE_POSITIONS - 1))
    assert tuned(tuning, known) is first
    note(known, "0" * 40)
    assert tuned(tuning, known) != first


def test_another_arm_is_tuned_of_its_own() -> None:
    known, tuning = evidence(), Tuning()
    note(known, "1" * 64)
    assert tuned(tuning, known) is not None
    assert tuning.setting("s", OTHER, GREEDY, 12, known, round_ns) is None


def test_behind_an_alarm_the_text_before_does_not_count() -> None:
    known, tuning = evidence(), Tuning()
    note(known, "1" * 96)
    assert tuned(tuning, known) is not None
    for _ in range(8):
        reads = {EXIT: [Read(False, 0.9)] * 8}
        if known.note(Observation(8, reads), EXIT):
            break
    else:
        pytest.fail("no alarm")
    assert known.changed_at == known.num_positions
    assert tuned(tuning, known) is None


def test_a_session_that_ended_is_forgotten() -> None:
    known, tuning = evidence(), Tuning()
    note(known, "1" * 64)
    assert tuned(tuning, known) is not None
    tuning.forget("s")
    tuning.forget("s")
    assert tuning.setting("s", OTHER, GREEDY, 12, evidence(), round_ns) is None


def test_nothing_is_replayed_while_a_decision_is_waited_for() -> None:
    known, tuning, asked = evidence(), Tuning(), []
    note(known, "1" * 64)

    def watched_ns(draft_len: int) -> float:
        asked.append(draft_len)
        return round_ns(draft_len)

    assert tuning.setting("s", EXIT, GREEDY, 12, known, watched_ns) is None
    assert not asked
    tuning.tune()
    assert asked


def test_the_end_of_a_session_teaches_no_other_one_short_drafts() -> None:
    known, tuning = evidence(), Tuning()
    for left in (12, 12, 5, 1):
        note(known, text(left, 40))
        tuning.setting("s", EXIT, GREEDY, left, known, round_ns)
        tuning.tune()
    last = tuning.setting("s", EXIT, GREEDY, 1, known, round_ns)
    tuning.forget("s")
    assert last is not None
    assert last.draft_len > 2
    assert tuned(tuning, evidence(), "another") == last


def test_those_that_may_draft_less_or_choose_otherwise_teach_others_nothing() -> None:
    known, tuning = evidence(), Tuning()
    note(known, "1" * 96)
    tuning.setting("s", EXIT, GREEDY, 2, known, round_ns)
    tuning.tune()
    tuning.forget("s")
    assert tuning.setting("alike", EXIT, GREEDY, 2, evidence(), round_ns) is not None
    assert tuning.setting("longer", EXIT, GREEDY, 12, evidence(), round_ns) is None
    assert tuning.setting("warm", EXIT, "warm", 2, evidence(), round_ns) is None


def test_what_stops_bring_is_told_of_tuned_sessions_at_their_arm() -> None:
    known, tuning = evidence(), Tuning()
    assert tuning.gain("s", EXIT) == 1.0
    note(known, text(1, 192))
    tuned(tuning, known)
    assert 1.1 < tuning.gain("s", EXIT) < 2.0
    assert tuning.is_tuned("s", EXIT) and not tuning.is_tuned("s", OTHER)
    assert tuning.gain("s", OTHER) == tuning.gain("another", EXIT) == 1.0
    tuning.forget("s")
    assert tuning.gain("s", EXIT) == 1.0


def test_where_an_exit_is_never_wrong_stops_bring_nothing() -> None:
    known, tuning = evidence(), Tuning()
    note(known, "1" * 192)
    tuned(tuning, known)
    assert tuning.gain("s", EXIT) == 1.0
