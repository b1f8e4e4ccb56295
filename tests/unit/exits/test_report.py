"""The report: its JSON, and how it looks on a terminal."""

import io
import json
from dataclasses import replace

from rich.console import Console

from shortstack.exits.report import ExitsReport
from shortstack.exits.view import machine_lines, show_report
from tests.unit.exits.builders import BAD, EXITS, GOOD, MAX_DRAFT_LEN, THRESHOLDS, make_report


def shown(report: ExitsReport) -> str:
    console = Console(file=io.StringIO(), width=80, markup=False, highlight=False)
    show_report(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_json_has_the_keys_that_others_read() -> None:
    values = make_report({"math": [GOOD], "code": [BAD]}).to_json()
    assert set(values) == {
        "model",
        "machine",
        "conditions",
        "is_worth_it",
        "advice",
        "plain_tok_s",
        "near_ties",
        "costs",
        "overall",
        "by_kind",
    }
    assert json.loads(json.dumps(values)) == values
    assert values["machine"]["cpu_model"] == "Some CPU"
    assert values["conditions"]["model_dir"] == "tiny"


def test_the_json_has_costs_by_exit() -> None:
    costs = make_report({"math": [GOOD]}).to_json()["costs"]
    assert set(costs["by_exit"]) == {"1", "2", "4"}
    assert costs["plain_step_ms"] == 8.5e-6
    assert costs["by_exit"]["4"]["verify_ms_by_rows"] == {"1": 4.5e-6}
    assert costs["scatter"] == 0.01


def test_the_json_has_agreement_survival_the_whole_grid_and_the_best() -> None:
    values = make_report({"math": [GOOD], "code": [BAD]}).to_json()
    for outlook in (values["overall"], *values["by_kind"].values()):
        assert set(outlook) == {"tokens", "agreement", "best", "grid"}
        assert len(outlook["grid"]) == len(EXITS) * MAX_DRAFT_LEN * len(THRESHOLDS)
        best = outlook["best"]
        assert best["predicted_speedup"] == max(c["predicted_speedup"] for c in outlook["grid"])
        assert len(best["survival"]) == best["draft_len"]
    cell = values["by_kind"]["math"]["grid"][0]
    assert set(cell) == {
        "exit_layer",
        "draft_len",
        "stop_threshold",
        "predicted_speedup",
        "mean_emitted_len",
        "rounds",
        "drafted",
        "accepted",
    }
    assert values["by_kind"]["math"]["agreement"] == {"1": 0.6667, "2": 0.8, "4": 1.0}


def test_a_terminal_of_80_columns_shows_every_number() -> None:
    text = shown(make_report({"math": [GOOD], "dialogue": [BAD]}))
    assert "…" not in text
    assert max(map(len, text.splitlines()[:-8])) <= 80
    for words in ("Agreement", "Predicted speed-up", "Best static setting", "accepted"):
        assert words in text
    assert "66.7" in text
    assert "Some CPU" in text
    assert text.count("*") == 1


def test_brackets_in_a_kind_are_no_markup() -> None:
    assert "[bold]" in shown(make_report({"[bold]": [GOOD]}))


def test_a_kind_may_be_called_all() -> None:
    assert "all kinds" in shown(make_report({"all": [GOOD], "code": [BAD]}))


def test_many_draft_lengths_are_thinned_out() -> None:
    from shortstack.exits.view import _shown_draft_lens

    assert _shown_draft_lens(8, 5) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert _shown_draft_lens(20, 7) == [1, 2, 3, 4, 6, 7, 8, 12, 16]


def test_a_busy_machine_is_told() -> None:
    quiet = make_report({"math": [GOOD]})
    assert not any("busy" in line for line in machine_lines(quiet))
    noisy = make_report({"math": [GOOD]}, scatter=0.25)
    assert "times scatter by 25%" in "\n".join(machine_lines(noisy))
    loaded = replace(quiet, machine=replace(quiet.machine, load_average=1.5))
    assert any("busy" in line for line in machine_lines(loaded))
