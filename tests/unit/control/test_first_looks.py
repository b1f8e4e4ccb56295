"""What a look at a new session found holds for others alike, and for no others."""

from dataclasses import replace

from shared.control.evidence.observation import Observation, Read
from shared.control.evidence.prior import Prior
from shared.control.evidence.shadow_pace import NUM_IN_VAIN
from shared.control.first_looks import NUM_ALIKE, FirstLooks
from shared.control.load_governor import LoadGovernor
from shared.control.step_costs import StepCosts
from shared.control.steps import RoundOutcome, SessionLoad, StepOutcome
from shared.speculation.vocabulary import LAYERSKIP, Decision

MS = 1_000_000
WISHED = Decision(LAYERSKIP, 2, 4, reason="policy")
LOAD = SessionLoad("a", WISHED, arms=(2,))
PRIOR = Prior.none((2,))


def test_it_holds_for_some_sessions_that_are_alike() -> None:
    looks = FirstLooks()
    assert not looks.are_plain(LOAD, PRIOR)
    looks.note(LOAD, PRIOR, is_plain=True)
    # What a cell believes moves a little with every session.
    priors = [Prior({2: (0.7 + 0.002 * i,) * 8}, PRIOR.weight) for i in range(NUM_ALIKE)]
    found = [looks.are_plain(replace(LOAD, key=f"b{i}"), p) for i, p in enumerate(priors)]
    assert found == [True] * (NUM_ALIKE - 1) + [False]


def test_others_are_looked_at() -> None:
    looks = FirstLooks()
    looks.note(LOAD, PRIOR, is_plain=True)
    assert not looks.are_plain(LOAD, None), "it has shown something"
    assert not looks.are_plain(LOAD, Prior({2: (0.8,) * 8}, PRIOR.weight)), "another prior"
    assert not looks.are_plain(replace(LOAD, arms=(2, 4)), PRIOR)
    assert not looks.are_plain(replace(LOAD, wished=replace(WISHED, max_draft_len=8)), PRIOR)
    assert looks.are_plain(LOAD, PRIOR)


def test_where_a_session_drafted_the_next_is_looked_at() -> None:
    looks = FirstLooks()
    looks.note(LOAD, PRIOR, is_plain=True)
    looks.note(LOAD, PRIOR, is_plain=False)
    assert not looks.are_plain(LOAD, PRIOR)


def serve(governor: LoadGovernor, key: str, num_steps: int, *, num_kept: int = 0) -> list[Decision]:
    """Decode a session alone whose drafts are kept up to so many; nothing else is read."""
    found = []
    for _ in range(num_steps):
        (decision,) = governor.decide([replace(LOAD, key=key)])
        governor.tune()
        k = 0 if decision.is_off else decision.max_draft_len
        a = min(k, num_kept)
        reads = {2: [Read(True, 0.9)] * a + [Read(False, 0.3)]} if k else {}
        rounds = [RoundOutcome(key, decision, k, a, a + 1, Observation(a + 1, reads))]
        governor.shadow([replace(LOAD, key=key)], [decision])
        governor.note_step(StepOutcome(rounds, 0, 4 * k * MS, 10 * MS, (10 + 4 * k) * MS))
        found.append(decision)
    governor.forget(key)
    return found


def test_a_cell_in_which_nobody_drafts_looks_at_few_of_its_new_sessions() -> None:
    governor = LoadGovernor(StepCosts(12))
    governor.sessions.book.set_prior("greedy", hopeless := Prior({2: (0.02,) * 8}, 48.0))
    serve(governor, "first", 400)
    planning = governor._planning

    def num_looks(num_sessions: int) -> int:
        before = planning._num_looks
        for index in range(num_sessions):
            serve(governor, f"{before}-{index}", 24)
        return planning._num_looks - before

    assert num_looks(NUM_IN_VAIN) >= NUM_IN_VAIN - 1
    assert governor.sessions.is_in_vain
    assert num_looks(4 * NUM_ALIKE) <= 5
    # Another belief is another question.
    governor.sessions.book.set_prior("greedy", replace(hopeless, weight=60.0))
    assert num_looks(1) >= 1


def test_a_session_that_promises_something_is_looked_at_and_drafts() -> None:
    governor = LoadGovernor(StepCosts(12))
    governor.sessions.book.set_prior("greedy", Prior({2: (0.02,) * 8}, 48.0))
    serve(governor, "first", 400)
    for index in range(2 * NUM_IN_VAIN):
        assert sum(not each.is_off for each in serve(governor, f"s{index}", 24)) <= 1
    governor.sessions.book.set_prior("greedy", Prior({2: (0.95,) * 8}, 48.0))
    assert not serve(governor, "good", 2, num_kept=4)[-1].is_off
