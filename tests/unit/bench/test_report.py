"""The report: its JSON keys, what it predicts, what it says of tokens that differ."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shared.speculation.cost_model import CostTable
from shared.speculation.vocabulary import SpeculationSummary
from shared.telemetry.machine import Machine
from shortstack.bench.decode_view import plot_report, speed_table, summary_lines
from shortstack.bench.report import Conditions, DecodeReport, Memory, rounded_values
from shortstack.bench.samples import Peer, Sample
from shortstack.checking.compare import Difference, Outcome

MS = 1_000_000
MACHINE = Machine("Some CPU", 2, 8 << 30, "Linux 6", {"python": "3.11"}, 0.1)
COSTS = CostTable({2: 3.0 * MS}, {2: 2.0 * MS}, {(2, 1): 8.0 * MS, (2, 5): 10.0 * MS}, 10.0 * MS)


def sample(peer: Peer, decode_ms: int, speculation: SpeculationSummary | None = None) -> Sample:
    return Sample(peer, "a", "code", tuple(range(9)), 1, 10 * MS, decode_ms * MS, speculation)


def pipeline_sample() -> Sample:
    did = SpeculationSummary()
    for _ in range(2):
        did.count(4, 3, 4)
    return sample(Peer.PIPELINE, 50, did)


def make_report(
    samples: list[Sample],
    differences: tuple[tuple[Peer, str, Difference], ...] = (),
    costs: CostTable | None = COSTS,
) -> DecodeReport:
    conditions = Conditions(
        Path("/models/tiny"), 8, "float32", "cpu", 0, 1, 9, 1, 2, 4, 0.0, {"hf": "2 threads"}
    )
    return DecodeReport(MACHINE, conditions, samples, differences, Memory(300, 200), costs)


def test_the_json_has_the_keys_that_others_read() -> None:
    values = make_report([pipeline_sample(), sample(Peer.PLAIN, 100)]).to_json()
    wanted = (
        "pipeline_tok_s fused_tok_s plain_tok_s plain_gateway_tok_s hf_tok_s hf_early_exit_tok_s "
        "ttft_ms acceptance_rate mean_emitted_len predicted_speedup pss_split_bytes "
        "pss_plain_bytes machine mismatches near_ties conditions by_kind"
    )
    assert set(wanted.split()) <= set(values)
    assert json.loads(json.dumps(values)) == values


def test_the_json_holds_speeds_and_their_ratios() -> None:
    values = make_report([pipeline_sample(), sample(Peer.PLAIN, 100)]).to_json()
    assert values["pipeline_tok_s"] == 160
    assert values["plain_tok_s"] == 80
    assert values["speedup_over_plain"] == 2
    assert values["hf_tok_s"] is None
    assert values["speedup_over_hf"] is None
    assert values["by_kind"]["code"]["pipeline_tok_s"] == 160
    assert (values["acceptance_rate"], values["mean_emitted_len"]) == (0.75, 4)
    assert values["conditions"]["model_dir"] == "tiny"


def test_the_prediction_uses_the_drafts_that_were_made() -> None:
    prediction = make_report([pipeline_sample()]).prediction()
    assert prediction is not None
    # A round of 4 drafts: 4 x 3 + 2 + 10 ms; 4 tokens a round; a plain step of 10 ms.
    assert prediction.round_ms == pytest.approx(24)
    assert prediction.speedup == pytest.approx(4 * 10 / 24)
    assert prediction.measured_round_ms == pytest.approx(25)
    assert prediction.overhead_ms == pytest.approx(1)


def test_a_stall_in_one_sample_does_not_move_the_measured_round() -> None:
    stalled = replace(pipeline_sample(), decode_ns=9000 * MS)
    prediction = make_report([pipeline_sample(), stalled, pipeline_sample()]).prediction()
    assert prediction is not None
    assert prediction.measured_round_ms == pytest.approx(25)


def test_nothing_is_predicted_without_drafts_or_costs() -> None:
    assert make_report([sample(Peer.PIPELINE, 50)]).prediction() is None
    assert make_report([pipeline_sample()], costs=None).prediction() is None
    assert make_report([], costs=None).to_json()["predicted_speedup"] is None


def test_a_pipeline_without_drafts_is_told() -> None:
    lines = "\n".join(summary_lines(make_report([sample(Peer.PIPELINE, 50)])))
    assert "made no drafts" in lines
    assert make_report([pipeline_sample()]).to_json()["draft_rounds"] == 2


def test_differences_are_counted_by_what_they_are() -> None:
    tie = Difference(Outcome.NEAR_TIE, 3, 1, 2, 1e-6)
    mismatch = Difference(Outcome.MISMATCH, 3, 1, 2, 1.0)
    report = make_report([], ((Peer.HF, "a", tie), (Peer.FUSED, "a", mismatch)))
    assert (report.num_mismatches, report.num_near_ties) == (1, 1)


def test_the_view_names_every_peer_and_the_machine() -> None:
    report = make_report([pipeline_sample(), sample(Peer.PLAIN, 100)])
    assert speed_table(report).row_count == 2
    lines = "\n".join(summary_lines(report))
    assert "Some CPU" in lines
    assert "1.50 x" in lines
    assert "cost model: 1.67 x plain" in lines


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_report(make_report([pipeline_sample(), sample(Peer.PLAIN, 100)]), tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_rounding_keeps_whole_numbers_and_structure() -> None:
    values = {"a": 1.23456, "b": [100_000, 0.000123456], "c": None, "d": "x"}
    assert rounded_values(values) == {"a": 1.235, "b": [100_000, 0.0001235], "c": None, "d": "x"}
