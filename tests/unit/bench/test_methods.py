"""The comparison of methods: who takes part, and what their turns add up to."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import SpeculationSummary
from shared.telemetry.machine import Machine
from shortstack.bench.methods.contenders import Settings, contenders_of, names_of
from shortstack.bench.methods.report import MethodsReport, plot, table_of
from shortstack.bench.methods.run import searched_between
from shortstack.bench.methods.searched import Searched
from shortstack.bench.samples import Peer, Sample
from shortstack.checking.compare import Difference, Outcome
from shortstack.request import PLAIN, Speculation

SETTINGS = Settings(exit_layer=3, draft_len=4, most=6)
S = 1_000_000_000


def test_a_model_takes_part_in_all_ways_that_it_can_draft() -> None:
    found = contenders_of(SETTINGS, 12, 1)
    assert list(found) == [
        "off",
        "layerskip",
        "layerskip-tree",
        "kangaroo",
        "kangaroo-tree",
        "swift",
        "swift-tree",
        "goodput",
    ]
    assert found["off"] == PLAIN
    assert (found["layerskip"].exit_layer, found["layerskip"].max_draft_len) == (3, 4)
    # Room for twice the chain, as far as the cell allows.
    assert found["layerskip-tree"].tree_nodes == 6
    assert all(found[name].mode == "force" for name in found if name not in ("off", "goodput"))


@pytest.mark.parametrize(
    ("num_layers", "num_adapters", "missing"),
    [(12, 0, {"kangaroo"}), (2, 1, {"swift"}), (2, 0, {"kangaroo", "swift"})],
)
def test_what_a_model_lacks_is_left_out(
    num_layers: int, num_adapters: int, missing: set[str]
) -> None:
    everything = contenders_of(SETTINGS, 12, 1)
    found = set(everything) - set(contenders_of(SETTINGS, num_layers, num_adapters))
    assert found == missing | {f"{name}-tree" for name in missing}


def test_some_may_be_named_and_plain_decoding_is_always_there() -> None:
    found = contenders_of(SETTINGS, 12, 0)
    assert names_of(found, "swift, layerskip") == ["off", "layerskip", "swift"]
    assert names_of(found, "") == list(found)
    with pytest.raises(ValueError, match=r"kangaroo: this model has off, layerskip.*"):
        names_of(found, "kangaroo,off")


def sample(prompt_id: str, kind: str, decode_s: float) -> Sample:
    """Return 11 tokens, 10 of them behind the first message."""
    summary = SpeculationSummary()
    summary.count(4, 3, 4)
    tokens = tuple(range(11))
    return Sample(Peer.PIPELINE, prompt_id, kind, tokens, 1, S // 10, int(decode_s * S), summary)


def report_of(differences: tuple[tuple[str, str, Difference], ...] = ()) -> MethodsReport:
    return MethodsReport(
        model="tiny",
        num_layers=4,
        machine=Machine("cpu", 2, 1 << 30, "Linux", {}, 0.5),
        conditions={"repeats": 1},
        contenders={"off": PLAIN, "swift": Speculation("swift")},
        samples={
            "off": [sample("a", "code", 1.0), sample("b", "math", 2.0)],
            "swift": [sample("a", "code", 0.5), sample("b", "math", 4.0)],
        },
        added_bytes={"off": None, "swift": 3 << 20},
        differences=differences,
    )


def test_speeds_are_compared_with_plain_decoding_over_all_and_by_kind() -> None:
    report = report_of()
    assert report.kinds() == ["code", "math"]
    assert report.ratio("swift", "code") == pytest.approx(2.0)
    assert report.ratio("swift", "math") == pytest.approx(0.5)
    # Means over prompts: 7.5 tokens per second plain, 11.25 with drafts.
    figures = report.to_json()["contenders"]["swift"]
    assert figures["tok_s"] == pytest.approx(11.25)
    assert figures["over_off"] == pytest.approx(1.5)
    assert (figures["acceptance_rate"], figures["mean_emitted_len"]) == (0.75, 4.0)
    assert figures["wished"] == {"method": "swift"}


def test_the_long_run_is_the_middle_of_the_last_half_of_the_turns() -> None:
    seconds = [4.0, 4.0, 1.0, 1.25, 1.6]
    samples = {
        "off": [sample("a", "code", 1.0) for _ in seconds],
        "swift": [sample("a", "code", each) for each in seconds],
    }
    report = replace(report_of(), samples=samples, searched=Searched(40, S, 49 * S))
    assert report.paired_ratios("swift") == pytest.approx([0.25, 0.25, 1.0, 0.8, 0.625])
    told = report.to_json()
    figures = told["contenders"]["swift"]
    assert (figures["over_off_in_pairs"], figures["over_off_late"]) == (0.625, 0.8)
    assert told["skip_set_search"] == {"looks": 40, "share": 0.02}
    assert "40 looks, 2.0 % of the time" in str(table_of(report).caption)


def test_what_a_search_took_is_what_came_to_its_counters() -> None:
    before = pb.WorkCounters(num_set_looks=5, set_looks_ns=50, searched_steps_ns=1000)
    after = pb.WorkCounters(num_set_looks=7, set_looks_ns=90, searched_steps_ns=1960)
    assert searched_between(before, after) == Searched(2, 40, 960)
    nothing = searched_between(after, after)
    assert nothing.to_json() == {"looks": 0, "share": None}


def test_a_near_tie_is_told_and_a_mismatch_counts() -> None:
    tie = ("swift", "a", Difference(Outcome.NEAR_TIE, 3, 1, 2, 1e-6))
    wrong = ("swift", "b", Difference(Outcome.MISMATCH, 3, 1, 2, 0.5))
    report = report_of((tie, wrong))
    assert report.num_mismatches == 1
    told = report.to_json()
    assert (told["mismatches"], told["near_ties"]) == (1, 1)


def test_table_and_picture_show_every_contender(tmp_path: Path) -> None:
    with (tmp_path / "out.txt").open("w", encoding="utf-8") as file:
        Console(width=120, file=file).print(table_of(report_of()))
    shown = (tmp_path / "out.txt").read_text(encoding="utf-8")
    assert "swift" in shown
    assert "1.50" in shown
    assert "+3" in shown
    pytest.importorskip("matplotlib")
    plot(report_of(), tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 1000
