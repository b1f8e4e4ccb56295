"""The search of one stream, with a scorer that knows the best set."""

import random
from collections.abc import Callable, Sequence

import pytest

from shared.control.skip_search.bayes import propose_set
from shared.control.skip_search.candidates import CandidateSource
from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.set_search import SetSearch, Trial
from shared.control.skip_search.stream_record import Observation, Phase, StreamRecord
from shared.speculation.skip_set import SkipSet, random_set

OPTIONS = SearchOptions(num_layers=8)
BEST = SkipSet.from_wire((3, 4, 7, 11, 12))
Scorer = Callable[[SkipSet, int], float]


def near_best(skip_set: SkipSet, window: int) -> float:
    """Score by distance from the best set; windows are easier and harder by turns."""
    ease = (0.0, -0.2, 0.1)[window % 3]
    return max(0.0, min(1.0, 0.85 + ease - 0.07 * skip_set.distance(BEST)))


def no_proposal(observations: Sequence[Observation], seed: int) -> SkipSet | None:
    """Draw instead of reckoning: the process itself has its own test."""
    return random_set(8, 5, random.Random(seed))


class Course:
    """A search that is run by a scorer."""

    def __init__(self, seed: int = 1, options: SearchOptions = OPTIONS) -> None:
        self.record = StreamRecord(options.start_set)
        self.search = SetSearch(options, CandidateSource(options, seed, no_proposal))
        self.in_use = [self.record.skip_set]

    def run(self, scorer: Scorer, num_trials: int, first_window: int = 0) -> None:
        """Run trials until the search locks."""
        for window in range(first_window, first_window + num_trials):
            trial = self.search.next_trial(self.record, ())
            if trial is None:
                return
            scores = {each: scorer(each, window) for each in trial.sets}
            self.search.note_trial(self.record, trial, scores)
            if self.record.skip_set != self.in_use[-1]:
                self.in_use.append(self.record.skip_set)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_set_is_found_within_a_bound(seed: int) -> None:
    course = Course(seed)
    course.run(near_best, 1000)
    assert course.record.skip_set == BEST
    assert course.record.num_evaluations <= 800
    distances = [each.distance(BEST) for each in course.in_use]
    assert distances == sorted(distances, reverse=True), "a worse set was taken up"


def test_equal_seeds_bring_equal_courses() -> None:
    courses = [Course(seed) for seed in (5, 5, 6)]
    for course in courses:
        course.run(near_best, 60)
    assert courses[0].in_use == courses[1].in_use
    assert courses[0].record == courses[1].record
    assert courses[0].record.observations != courses[2].record.observations


def test_an_easy_window_does_not_freeze_the_set_in_use() -> None:
    """On the first window all score high; nothing later does, and yet better sets are taken up."""

    def scorer(skip_set: SkipSet, window: int) -> float:
        if window == 0:
            return 0.94 if skip_set == OPTIONS.start_set else 0.9
        return 0.3 - 0.02 * skip_set.distance(BEST)

    course = Course()
    course.run(scorer, 200)
    assert course.record.skip_set.distance(BEST) < OPTIONS.start_set.distance(BEST)


def test_the_start_set_is_scored_and_not_lost_to_the_first_candidate() -> None:
    course = Course()
    course.run(lambda skip_set, _: 0.9 if skip_set == OPTIONS.start_set else 0.5, 50)
    assert course.record.skip_set == OPTIONS.start_set
    assert course.record.version == 1


def test_a_challenger_must_win_two_windows() -> None:
    course = Course()
    trial = course.search.next_trial(course.record, ())
    assert trial is not None
    lucky = trial.challengers[1]
    scores = dict.fromkeys(trial.sets, 0.5) | {lucky: 0.6}
    course.search.note_trial(course.record, trial, scores)
    assert course.record.skip_set == OPTIONS.start_set
    second = course.search.next_trial(course.record, ())
    assert second == Trial(OPTIONS.start_set, (lucky,), 0.6)
    course.search.note_trial(course.record, second, {OPTIONS.start_set: 0.5, lucky: 0.5})
    assert course.record.skip_set == OPTIONS.start_set
    assert course.record.num_misses == 3
    third = course.search.next_trial(course.record, ())
    assert third is not None and lucky not in third.challengers


def test_it_locks_when_good_enough_and_remembers_the_acceptance() -> None:
    course = Course()
    course.search.note_round(course.record, 10, 9)
    course.run(lambda skip_set, window: 0.96, 3)
    assert course.record.phase is Phase.SEARCH
    course.run(lambda skip_set, window: 0.96, 10, 3)
    assert course.record.phase is Phase.LOCKED
    assert course.record.num_windows == 4
    assert course.record.acceptance_at_lock == 0.9
    assert [each.skip_set for each in course.record.library] == [OPTIONS.start_set]
    assert course.search.next_trial(course.record, ()) is None


@pytest.mark.parametrize(("limits", "num_windows"), [((300, 1000), 101), ((5000, 1000), 334)])
def test_it_locks_when_nothing_better_turns_up(limits: tuple[int, int], num_windows: int) -> None:
    max_misses, max_evaluations = limits
    options = SearchOptions(16, max_misses=max_misses, max_evaluations=max_evaluations)
    course = Course(options=options)
    course.run(lambda skip_set, _: 0.5, 2000)
    assert course.record.phase is Phase.LOCKED
    assert course.record.num_windows == num_windows


def locked(acceptance: float) -> tuple[StreamRecord, SetSearch]:
    course = Course()
    course.record.phase = Phase.LOCKED
    course.record.acceptance, course.record.acceptance_at_lock = acceptance, 0.9
    course.record.num_rounds, course.record.num_evaluations = 500, 700
    course.record.observations = [Observation(BEST, 0.1, 3)]
    return course.record, course.search


@pytest.mark.parametrize(
    ("acceptance", "num_rounds", "is_open"),
    [(0.79, 32, True), (0.79, 31, False), (0.81, 500, False)],
)
def test_a_long_drop_of_more_than_a_tenth_opens_it_again(
    acceptance: float, num_rounds: int, is_open: bool
) -> None:
    record, search = locked(acceptance)
    for _ in range(num_rounds):
        search.note_round(record, 100, round(100 * acceptance))
    assert (record.phase is Phase.SEARCH) == is_open
    assert (record.num_evaluations, len(record.observations)) == ((0, 0) if is_open else (700, 1))


def test_a_drop_that_recovers_does_not_add_up() -> None:
    record, search = locked(0.79)
    for _ in range(31):
        search.note_round(record, 100, 79)
    record.acceptance = 0.85
    search.note_round(record, 100, 85)
    record.acceptance = 0.79
    for _ in range(31):
        search.note_round(record, 100, 79)
    assert record.phase is Phase.LOCKED


def test_a_slow_stream_without_any_better_set_goes_off_and_is_tried_again_later() -> None:
    course = Course()
    course.run(lambda skip_set, _: 0.5, 33)
    course.search.give_up_if_slow(course.record, 0.8)
    assert course.record.phase is Phase.SEARCH
    course.run(lambda skip_set, _: 0.5, 1, 33)
    course.search.give_up_if_slow(course.record, None)
    course.search.give_up_if_slow(course.record, 1.1)
    assert course.record.phase is Phase.SEARCH
    course.search.give_up_if_slow(course.record, 0.8)
    assert course.record.phase is Phase.OFF
    for _ in range(8192):
        course.search.note_plain_round(course.record)
    assert course.record.phase is Phase.SEARCH


def test_a_set_that_was_taken_up_and_is_slow_is_given_up_as_well() -> None:
    """What was better than the start set need not pay."""

    def scorer(skip_set: SkipSet, window: int) -> float:
        return 0.4 if skip_set == OPTIONS.start_set else 0.5

    course = Course()
    course.run(scorer, 30)
    taken_up = course.record.skip_set
    assert course.record.version == 2
    course.search.give_up_if_slow(course.record, 0.8)
    assert course.record.phase is Phase.SEARCH, "it has not looked far yet"
    course.run(scorer, 10, 30)
    course.search.give_up_if_slow(course.record, 0.8)
    assert course.record.phase is Phase.OFF
    course.search.reopen(course.record)
    assert course.record.skip_set == taken_up


def test_what_is_given_up_time_and_again_is_tried_ever_more_seldom() -> None:
    course = Course()
    pauses = []
    for _ in range(3):
        course.run(lambda skip_set, _: 0.5, 34)
        course.search.give_up_if_slow(course.record, 0.8)
        pauses.append(0)
        while course.record.phase is Phase.OFF:
            course.search.note_plain_round(course.record)
            pauses[-1] += 1
    assert pauses == [8192, 16384, 32768]
    course.run(lambda skip_set, _: 0.96, 10)
    assert (course.record.phase, course.record.num_given_up) == (Phase.LOCKED, 0)


def test_a_model_with_few_sets_comes_to_an_end() -> None:
    options = SearchOptions(num_layers=4, max_misses=30)
    course = Course(options=options)
    course.run(lambda skip_set, _: 0.5, 200)
    assert course.record.phase is Phase.LOCKED


def test_candidates_of_every_source_have_the_size_and_differ_from_the_set_in_use() -> None:
    def propose(observations: Sequence[Observation], seed: int) -> SkipSet:
        proposed.append(propose_set(OPTIONS, observations, seed))
        return proposed[-1]

    proposed: list[SkipSet] = []
    record = StreamRecord(OPTIONS.start_set)
    source = CandidateSource(OPTIONS, 3, propose)
    neighbour = SkipSet.from_wire((2, 3, 4, 5, 6))
    seen: list[SkipSet] = []
    for window in range(20):
        taken = source.take(record, [neighbour])
        assert taken is not None and len(set(taken)) == len(taken)
        for each in taken:
            each.check(8)
            assert len(each) == 5 and each != record.skip_set
            record.observe(Observation(each, -0.07 * each.distance(BEST), window))
        seen += taken
    assert seen[0] == neighbour and seen.count(neighbour) == 1
    assert len(proposed) == 2, "every 25th candidate is reckoned"
    # With 48 observations of a smooth score the process knows well where to look.
    assert proposed[1].distance(BEST) <= 4


def test_a_proposal_in_the_making_holds_the_course_and_moves_nothing() -> None:
    record = StreamRecord(OPTIONS.start_set, num_candidates=24)
    record.observe(Observation(BEST, 0.1, 1))
    source = CandidateSource(OPTIONS, 3, lambda observations, seed: None)
    assert source.take(record, ()) is None
    assert record.num_candidates == 24
