"""Verdicts on a live comparison."""

from dataclasses import replace

from shortstack.bench.control.acceptance import Row
from shortstack.bench.control.live_acceptance import judge_live
from shortstack.bench.control.live_figures import ArmCheck, LiveKind


def kind(name: str, over_best: float, slower: float = 0.0) -> LiveKind:
    return LiveKind(name, {}, "E3 d8", {"goodput": over_best}, {}, {"goodput": slower})


def verdicts(rows: list[Row]) -> dict[str, tuple[float, bool]]:
    return {row.what.removeprefix("live: "): (row.found, row.is_met) for row in rows}


def test_the_worst_kind_and_all_of_them_are_judged_apart() -> None:
    kinds = [kind("code", 0.99), kind("math", 0.97), kind("all", 1.06, slower=0.02)]
    found = verdicts(judge_live(kinds, [], 0, {}))
    assert found["goodput / best static setting of a kind, worst kind"] == (0.97, False)
    assert found["goodput / best single static setting, all kinds"] == (1.06, True)
    assert found["texts slower than plain by > 2 %"] == (0.02, False)
    assert found["texts that differ from plain decoding's"] == (0, True)


def test_where_no_setting_beats_plain_decoding_there_is_nothing_to_choose() -> None:
    kinds = [replace(kind(name, 0.99), best_static="plain") for name in ("code", "math", "all")]
    found = verdicts(judge_live(kinds, [], 0, {}))
    assert found["goodput / best static setting of a kind, worst kind"] == (0.99, True)
    assert "goodput / best single static setting, all kinds" not in found


def test_what_plain_decoding_differs_from_itself_is_told() -> None:
    shares = {"goodput": 0.02, "plain again": 0.25}
    rows = judge_live([replace(kind("code", 1.0), slower_than_plain=shares)], [], 0, {})
    (row,) = (each for each in rows if "slower than plain" in each.what)
    assert (row.found, row.where) == (0.02, "share; of plain decoding itself: 0.25")


def test_one_kind_alone_has_no_row_of_all_kinds() -> None:
    found = verdicts(judge_live([kind("code", 0.99)], [], 0, {"goodput": 0.4}))
    assert "goodput / best single static setting, all kinds" not in found
    assert found["added time to first token, p50, ms"] == (0.4, True)


def test_settings_are_judged_by_their_replay() -> None:
    checks = [
        ArmCheck("E2 d4", 101.0, 100.0, 5, 0),
        ArmCheck("E3 d8", 94.0, 100.0, 5, 1),
        ArmCheck("E4 d8", 94.0, None, 0, 0),
    ]
    rows = judge_live([], checks, 1, {})
    found = verdicts(rows)
    assert found["texts that differ from plain decoding's"] == (1, False)
    assert found["texts whose rounds kept otherwise than their replay"] == (1, False)
    error, is_met = found["mean round of a setting, live / replayed, worst error"]
    assert (round(error, 6), is_met) == (0.06, False)
    assert rows[-1].where == "E3 d8"
