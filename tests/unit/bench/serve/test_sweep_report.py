"""The sweep's report: ratios, failures, JSON, tables, picture, trace; and the comparison."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from shared.telemetry.machine import Machine
from shortstack.bench.serve.checks import check_of, differences
from shortstack.bench.serve.conditions import make_conditions
from shortstack.bench.serve.figures import figures_of
from shortstack.bench.serve.plan import ServePlan
from shortstack.bench.serve.result import Outcome, Result
from shortstack.bench.serve.sweep_plot import plot_sweep
from shortstack.bench.serve.sweep_report import SweepReport
from shortstack.bench.serve.sweep_view import load_table, show_sweep, summary_lines
from shortstack.bench.serve.turns import Load, LoadKind, Turn
from shortstack.bench.serve.window import LoadRun
from shortstack.bench.torch_messages import Answer
from shortstack.bench.torch_peer import ModelChoice
from tests.unit.bench.serve.builders import MS, PROMPTS, item, result, server_side

MACHINE = Machine("Some CPU", 2, 8 << 30, "Linux 6", {"python": "3.11"}, 0.1)
CLOSED, OPEN = Load(LoadKind.CLOSED, 2), Load(LoadKind.OPEN, 0.5)
GAPS = (1.0, 1.0, 1e-6, 1.0)
EXPECTED = {"a": Answer((5, 6, 7, 8), 1, 0, 0, GAPS)}


def answered(*token_ids: int, limit: int = 4, outcome: Outcome = Outcome.DONE) -> Result:
    whole = replace(result(0), token_ids=token_ids, outcome=outcome)
    return replace(whole, item=item(max_new_tokens=limit))


def make_turn(load: Load, sender: str, end_ms: float, repeat: int = 0, **more: object) -> Turn:
    results = [result(0, [(10, 1), (end_ms, 9)], server=server_side(2, 3), **more)]  # type: ignore[arg-type]
    run = LoadRun(results, 0, int(end_ms * MS), int(end_ms * MS))
    return Turn(load, repeat, sender, 0, results, figures_of(run, run.whole(), None))


def make_report(*turns: Turn, found: tuple[Result, ...] = ()) -> SweepReport:
    plan = ServePlan(ModelChoice(Path("/models/tiny")), PROMPTS, repeats=2)
    conditions = make_conditions(plan, 8, {"hf": "2 threads"}, {"hf-continuous": "no CPU"})
    differ = differences("auto", found, EXPECTED)
    checks = {name: check_of((), ()) for name in dict.fromkeys(turn.sender for turn in turns)}
    checks["auto"] = check_of(found, differ)
    return SweepReport(MACHINE, conditions, turns, checks, differ)


def two_modes() -> SweepReport:
    return make_report(
        *(make_turn(CLOSED, "auto", end_ms, repeat) for repeat, end_ms in enumerate((100, 200))),
        *(make_turn(CLOSED, "off", 400, repeat) for repeat in range(2)),
        make_turn(OPEN, "auto", 100),
        make_turn(OPEN, "off", 100),
    )


def test_equal_and_shorter_answers_are_no_differences() -> None:
    results = [answered(5, 6, 7, 8), answered(5, 6, limit=2)]
    assert differences("auto", results, EXPECTED) == []
    assert check_of(results, ()).num_compared == 2


def test_other_tokens_are_near_ties_or_mismatches() -> None:
    results = [answered(5, 6, 9, 9), answered(5, 9, 7, 8), answered(5, 6, 7)]
    found = differences("auto", results, EXPECTED)
    check = check_of(results, found)
    assert (check.num_near_ties, check.num_mismatches) == (1, 2)
    assert "a: auto differs at token 1: 9 instead of 6" in str(found[1])


def test_only_whole_answers_are_compared() -> None:
    refused = answered(outcome=Outcome.REFUSED)
    assert differences("auto", [refused], EXPECTED) == []
    assert check_of([refused], ()).num_compared == 0


def test_ratios_are_of_medians() -> None:
    report = two_modes()
    # 10 tokens in 100 and 200 ms: the median of 100 and 50 tokens/s; off 25.
    assert report.figures(CLOSED, "auto").tok_s == pytest.approx(75)
    assert report.ratio(CLOSED, "auto", "off") == pytest.approx(3)
    assert report.ratio(CLOSED, "off", "off") == 1
    assert report.references == ["off"]


def test_the_json_holds_every_point_and_names_the_machine() -> None:
    values = two_modes().to_json()
    assert json.loads(json.dumps(values)) == values
    assert [(each["load"], each["size"], each["sender"]) for each in values["points"]] == [
        ("closed", 2, "auto"),
        ("closed", 2, "off"),
        ("open", 0.5, "auto"),
        ("open", 0.5, "off"),
    ]
    first = values["points"][0]
    assert first["tok_s_over"] == {"off": 3}
    assert first["tok_s_by_repeat"] == [100, 50]
    assert first["median"]["ttft_ms"]["p50"] == 10
    assert values["machine"]["cpu_model"] == "Some CPU"
    assert values["conditions"]["missing"] == {"hf-continuous": "no CPU"}
    assert (values["scenario"], values["mismatches"]) == ("sweep", 0)


def test_mismatches_and_lost_requests_are_failures_and_near_ties_are_not() -> None:
    assert two_modes().failures() == []
    tie = make_report(make_turn(CLOSED, "auto", 50), found=(answered(5, 6, 9, 9),))
    assert tie.failures() == []
    report = make_report(
        make_turn(CLOSED, "auto", 50, outcome=Outcome.FAILED, error="UNAVAILABLE: gone"),
        found=(answered(9),),
    )
    assert report.failures() == [
        "auto: 1 of 1 answers differ",
        "2 clients, auto: 1 requests lost: UNAVAILABLE: gone",
    ]


def test_the_view_has_a_row_per_load_and_sender() -> None:
    report = two_modes()
    assert load_table(report, LoadKind.CLOSED, [CLOSED]).row_count == 2
    console = Console(width=140, record=True, file=io.StringIO())
    show_sweep(report, console)
    text = console.export_text()
    assert "3.00" in text
    assert "10/10/10" in text
    assert "1+0+0" in text


def test_the_view_says_which_peer_does_not_run_and_why() -> None:
    lines = "\n".join(summary_lines(two_modes()))
    assert "hf-continuous does not run here: no CPU" in lines
    assert "Some CPU" in lines


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_sweep(two_modes(), tmp_path / "new" / "p.png")
    assert (tmp_path / "new" / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_trace_has_a_record_per_request() -> None:
    records = two_modes().trace()
    assert len(records) == 6
    assert json.loads(json.dumps(records[0])) == records[0]
    assert records[0]["sender"] == "auto"
    assert (records[0]["message_ms"], records[0]["message_lens"]) == ([10, 100], [1, 9])
    assert records[0]["server"]["queue_ns"] == 2 * MS
