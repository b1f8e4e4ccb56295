"""The script of the published numbers: its options and its tables."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import control
from bench.control import live_table, parse, replay_table


def test_the_tables_have_a_row_per_contender_and_per_kind() -> None:
    workload = {"contenders": {"off": {"share_of_o2": 0.5}, "goodput, cold": {"share_of_o2": 0.97}}}
    mixed = {"contenders": {"off": {"share_of_o2": 0.25}}}
    table = replay_table({"stationary": {"odd": workload}, "in_turn": mixed, "shift": None})
    assert table.splitlines()[0] == "| speed / O2 | odd | all |"
    assert "| off | 0.5 | 0.25 |" in table
    assert "| goodput, cold | 0.97 | - |" in table
    kind = {
        "kind": "odd",
        "tok_s": {"plain": 100.0, "E3 d4": 150.0, "goodput": 155.0},
        "best_static": "E3 d4",
        "over_best": {"goodput": 155 / 150},
    }
    assert live_table({"kinds": [kind]}).splitlines()[-1] == (
        "| odd | 100 | E3 d4 | 150 | 155 | 1.03 |"
    )


def record_commands(monkeypatch: pytest.MonkeyPatch, results: Path) -> list[list[str]]:
    """Write what commands would into their --out; return the list of those that ran."""
    ran: list[list[str]] = []
    row = {"bound": 0.9, "found": 0.95, "is_most": False, "is_met": True}
    made = {"machine": {"cpu_model": "Some CPU", "num_cores": 2}}
    made |= {"stationary": {}, "in_turn": None, "shift": None}
    kind = {"kind": "odd", "tok_s": {"plain": 1.0, "E3 d4": 2.0}, "best_static": "E3 d4"}

    def run(*words: Any) -> None:
        ran.append([str(word) for word in words])
        what = ran[-1][1]
        if what != "record-tapes":
            whole = made | {"kinds": [kind | {"over_best": {}}]}
            whole |= {"acceptance": [row | {"what": f"speed of {what}"}]}
            Path(ran[-1][-1]).write_text(json.dumps(whole))

    monkeypatch.setattr(control, "shortstack", run)
    monkeypatch.setattr(control, "RESULTS", results)
    return ran


def test_a_replay_drives_the_commands_and_keeps_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = record_commands(monkeypatch, tmp_path)
    control.main(["replay", "--prompts", "a.jsonl", "b.jsonl", "--served", "/live.json"])
    recorded, replayed = ran
    assert recorded[:2] == ["bench", "record-tapes"]
    assert recorded.count("--prompts") == 2
    assert replayed[replayed.index("--tapes") + 1] == recorded[recorded.index("--out") + 1]
    assert replayed[replayed.index("--served") + 1] == "/live.json"
    assert (tmp_path / "control-replay-shortstack-10m-some-cpu-2c.json").is_file()
    assert "| speed of policies | >= 0.9 | 0.95 | met |" in capsys.readouterr().out


def test_all_serves_first_and_replays_by_what_was_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = record_commands(monkeypatch, tmp_path)
    control.main(["all", "--limit", "16", "--live-limit", "3", "--max-new-tokens", "200"])
    assert [words[1] for words in ran] == [
        "record-tapes",
        "policies-live",
        "record-tapes",
        "policies",
    ]
    (_, served, recorded, replayed) = ran
    assert served[served.index("--limit") + 1] == "3"
    assert (recorded[recorded.index("--limit") + 1], "--costs" in served) == ("16", False)
    live = tmp_path / "control-live-shortstack-10m-some-cpu-2c.json"
    assert replayed[replayed.index("--served") + 1] == str(live)
    told = capsys.readouterr().out
    assert told.index("speed of policies |") < told.index("speed of policies-live |")


def test_live_has_options_of_its_own() -> None:
    options = parse(["live", "--repeats", "2", "--warm-up-tokens", "10"])
    assert (options.what, options.repeats, options.warm_up_tokens) == ("live", 2, 10)
    with pytest.raises(SystemExit):
        parse(["replay", "--repeats", "2"])
