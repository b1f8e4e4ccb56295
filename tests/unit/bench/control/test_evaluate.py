"""All scenarios of a replay: who takes part, what is compared, and what follows from it."""

import json
from dataclasses import replace

import pytest
from rich.console import Console

from shared.control.replay.controllers import StaticController
from shared.control.replay.yardsticks import arm_ns
from shared.speculation.vocabulary import PLAIN_DECISION, Decision
from shared.telemetry.machine import Machine
from shortstack.bench.control import load_steps
from shortstack.bench.control.acceptance import Row, judge
from shortstack.bench.control.contenders import NAMES, Setup, static_contender
from shortstack.bench.control.costs_file import times_from_json, times_to_json
from shortstack.bench.control.evaluate import Evaluation, Plan, all_figures, evaluate
from shortstack.bench.control.load_steps import (
    PhasePlay,
    TimedController,
    play_load,
    table_contender,
)
from shortstack.bench.control.plays import Yardsticks, figures_of, play, play_apart
from shortstack.bench.control.replay_plot import make_figure
from shortstack.bench.control.replay_report import ReplayConditions, ReplayReport
from shortstack.bench.control.replay_view import show_replay
from tests.unit.bench.control.builders import KINDS
from tests.unit.control.replay.builders import EXITS, make_times, random_text

SESSION_LEN = 300
SETUP = Setup(make_times(), EXITS)


@pytest.fixture(scope="module")
def found() -> Evaluation:
    """Everything, on few and short texts, with short phases of load."""
    patch = pytest.MonkeyPatch()
    patch.setattr(load_steps, "NUM_PLAIN_STEPS", 40)
    patch.setattr(load_steps, "NUM_TRIED_STEPS", 10)
    texts = [
        random_text(f"{kind}-{index}", index, rates, 160)
        for kind, rates in KINDS.items()
        for index in range(4)
    ]
    evaluation = evaluate(Plan(SETUP, NAMES, SESSION_LEN), texts)
    patch.undo()
    return evaluation


@pytest.fixture(scope="module")
def report(found: Evaluation) -> ReplayReport:
    machine = Machine("Some CPU", 2, 8 << 30, "Linux 6", {"python": "3.11"}, 0.1)
    return ReplayReport(
        machine, ReplayConditions("tiny", "f", "greedy", EXITS, 8, 1280, SESSION_LEN, 0), found
    )


def test_every_contender_plays_every_workload(found: Evaluation) -> None:
    single = set(NAMES) - {"goodput"}
    for workload in found.stationary.values():
        begun = {f"goodput, {belief}" for belief in ("new process", "cold", "task prior")}
        assert set(workload.plays) == single | begun
    assert set(found.in_turn.plays) == set(NAMES)
    assert found.shift is not None
    assert set(found.shift.plays) == single | {"goodput, cold"}
    assert set(found.load) == set(NAMES) | {"table"}
    assert list(found.wrong_prior["easy"].plays) == ["goodput, prior of hard"]
    for workload in found.workloads():
        for plays in workload.plays.values():
            texts = [each.text for each in plays]
            assert texts == list(workload.yardsticks.texts)


def test_yardsticks_are_in_order_on_every_workload(found: Evaluation) -> None:
    for workload in found.workloads():
        yardsticks = workload.yardsticks
        slack = 1e-9 * sum(yardsticks.plain_ns)
        assert sum(yardsticks.o1_ns) <= sum(yardsticks.plain_ns) + slack
        if workload is not found.shift:
            assert sum(yardsticks.o2_ns) <= sum(yardsticks.o1_ns) + slack
        assert sum(yardsticks.o3_ns) <= sum(yardsticks.o2_ns) + slack
        figures = all_figures(workload)
        assert figures["off"].over_plain == pytest.approx(1.0) if "off" in figures else True
        if "o1" in figures:
            assert figures["o1"].over_o1 == pytest.approx(1.0, rel=1e-6)


def test_kinds_differ_in_what_is_best_and_the_governor_finds_it(found: Evaluation) -> None:
    easy, hard = found.stationary["easy"], found.stationary["hard"]
    assert easy.yardsticks.o1.max_draft_len > hard.yardsticks.o1.max_draft_len
    figures = all_figures(easy)
    assert figures["goodput, task prior"].share_of_o2 > 0.9
    assert figures["hf"].over_plain < figures["o1"].over_plain


def test_the_rows_say_what_was_found(found: Evaluation) -> None:
    rows = {row.what: row for row in judge(found)}
    assert len(rows) == 14
    cold = rows["goodput, cold / O2, stationary, mean over kinds"]
    shares = [all_figures(each)["goodput, cold"].share_of_o2 for each in found.stationary.values()]
    assert cold.found == pytest.approx(sum(shares) / 2)
    assert cold.is_met == (cold.found >= 0.95)
    slower = rows["sessions slower than plain by > 2 %"]
    assert slower.is_most
    assert 0 <= slower.found <= 1


def test_a_row_is_met_on_its_own_side_of_the_bound() -> None:
    assert Row("a", 0.9, 0.9).is_met
    assert not Row("a", 0.9, 0.89).is_met
    assert Row("a", 6, 5, is_most=True).is_met
    assert not Row("a", 6, 7, is_most=True).is_met


def test_a_replay_without_the_governor_judges_nothing_of_it() -> None:
    texts = [random_text(f"{kind}-0", 1, rates, 60) for kind, rates in KINDS.items()]
    patch = pytest.MonkeyPatch()
    patch.setattr(load_steps, "NUM_PLAIN_STEPS", 5)
    patch.setattr(load_steps, "NUM_TRIED_STEPS", 2)
    evaluation = evaluate(Plan(SETUP, ("off", "o1", "hf"), 60), texts)
    patch.undo()
    assert judge(evaluation) == []
    assert evaluation.wrong_prior == {}


def test_the_json_is_complete_and_its_times_can_be_used_again(report: ReplayReport) -> None:
    values = json.loads(json.dumps(report.to_json()))
    assert values["machine"]["cpu_model"] == "Some CPU"
    assert set(values["stationary"]) == set(KINDS)
    assert len(values["acceptance"]) == 14
    again = times_from_json(values["times"])
    assert again.round_ns(2, 4) == pytest.approx(SETUP.times.round_ns(2, 4), rel=1e-3)
    times = replace(SETUP.times, chance_ns={1: 2.0, 4: 6.0}, first_steps_ns={(2, 1): 3.0})
    assert times_from_json(times_to_json(times)) == times


def test_times_of_before_there_were_chances_are_read() -> None:
    values = times_to_json(SETUP.times)
    del values["chance_ns"], values["first_steps_ns"]
    del values["draft_stretch"], values["pass_stretch"], values["plain_stretch"]
    assert times_from_json(values) == SETUP.times


def test_times_of_before_plain_passes_had_a_stretch_of_their_own_are_read() -> None:
    values = times_to_json(replace(SETUP.times, pass_stretch=1.3))
    del values["plain_stretch"]
    times = times_from_json(values)
    assert (times.pass_stretch, times.plain_stretch) == (1.3, 1.3)


def test_a_terminal_of_80_columns_shows_all_numbers(
    report: ReplayReport, capsys: pytest.CaptureFixture[str]
) -> None:
    show_replay(report, Console(width=80, markup=False, highlight=False))
    written = capsys.readouterr().out
    assert "…" not in written
    for words in ("easy, wrong prior", "shift, from 100 tokens", "required of goodput", "16 sess"):
        assert words in written


def test_the_picture_has_a_bar_for_every_contender(report: ReplayReport) -> None:
    figure = make_figure(report)
    shares, load = figure.axes
    assert [tick.get_text() for tick in shares.get_xticklabels()] == [*KINDS, "all", "shift"]
    assert len(load.patches) == 3 * len(report.found.load)


def test_figures_compare_with_the_yardsticks() -> None:
    texts = [random_text(f"easy-{index}", index, (0.8, 0.97)) for index in range(3)]
    yardsticks = Yardsticks(SETUP, texts)
    arm = Decision("layerskip", 2, 1)
    plays = list(play_apart(static_contender(SETUP, "one", arm), texts))
    figures = figures_of(yardsticks, plays)
    times = [arm_ns(each.tape, arm, SETUP.times.round_ns) for each in texts]
    shares = [o2 / own for o2, own in zip(yardsticks.o2_ns, times, strict=True)]
    assert figures.share_of_o2 == pytest.approx(sum(shares) / 3, rel=1e-6)
    worst = min(plain / own for plain, own in zip(yardsticks.plain_ns, times, strict=True))
    assert figures.worst_over_plain == pytest.approx(worst, rel=1e-6)
    assert figures.num_slower == sum(
        own > 1.02 * plain for own, plain in zip(times, yardsticks.plain_ns, strict=True)
    )
    assert (figures.shadow_share, figures.num_sessions) == (0.0, 3)


def test_time_since_a_place_begins_with_the_first_round_there() -> None:
    text = random_text("easy-0", 0)
    played = play(static_contender(SETUP, "off", PLAIN_DECISION).new_cell(), text)
    assert played.since(0) == (0, played.ns)
    start, ns = played.since(150)
    assert start == 150
    assert ns == pytest.approx(played.ns / 4, rel=1e-6)
    assert played.since(10_000) == (text.tape.num_tokens, 0)


def test_load_rises_and_falls_and_plain_steps_take_what_they_take() -> None:
    texts = [random_text(f"easy-{index}", index) for index in range(4)]
    phases = play_load(static_contender(SETUP, "off", PLAIN_DECISION), texts, num_steps=20)
    assert [each.num_sessions for each in phases] == [1, 16, 1]
    assert [each.num_tokens for each in phases] == [20, 320, 20]
    assert all(each.num_switches == 0 and len(each.decide_us) == 20 for each in phases)
    assert all(len(each.decide_wall_us) == 20 for each in phases)
    assert phases[1].tok_s > phases[0].tok_s


def test_decisions_are_judged_by_what_they_take_of_their_thread(found: Evaluation) -> None:
    phases = [
        PhasePlay(size, 100, 10**9, 0, [own_us] * 98 + [99.0] * 2, [own_us] * 98 + [wall_us] * 2)
        for size, own_us, wall_us in ((1, 20.0, 4e3), (16, 600.0, 7e3), (1, 30.0, 5e3))
    ]
    rows = judge(replace(found, load={"goodput": phases, "off": phases}))
    alone, many = (row for row in rows if row.what.startswith("decide p99"))
    assert (alone.found, alone.is_met) == (99.0, True)
    assert "5e+03" in alone.where
    assert (many.found, many.is_met) == (600.0, False)


def test_switches_are_counted_by_load_not_by_phase(found: Evaluation) -> None:
    phases = [
        PhasePlay(size, 100, 20 * 10**9, num_switches, [1.0], [1.0])
        for size, num_switches in ((1, 3), (16, 1), (1, 1))
    ]
    rows = judge(replace(found, load={"goodput": phases, "off": phases}))
    (row,) = (row for row in rows if "switches" in row.what)
    assert (row.found, row.where) == (pytest.approx(6.0), "at 1 sessions")


def test_what_waits_for_the_order_is_not_timed_with_the_decision() -> None:
    class Tuning(StaticController):
        num_tuned = 0

        def tune(self) -> None:
            self.num_tuned += 1

    inner = Tuning(PLAIN_DECISION)
    timed = TimedController(inner)
    cell = SETUP.cell(timed, PLAIN_DECISION)
    cell.admit("s", random_text("easy-0", 0))
    for num_steps in (1, 2):
        cell.step()
        assert (len(timed.decide_us), inner.num_tuned) == (num_steps, num_steps)


def test_the_table_is_at_each_load_as_good_as_any_setting() -> None:
    texts = [random_text(f"easy-{index}", index, (0.8, 0.97)) for index in range(4)]
    table = play_load(table_contender(SETUP, texts), texts, num_steps=100)
    for arm in (PLAIN_DECISION, Decision("layerskip", 2, 2), Decision("layerskip", 4, 8)):
        other = play_load(static_contender(SETUP, "x", arm), texts, num_steps=100)
        assert table[1].tok_s > 0.97 * other[1].tok_s
