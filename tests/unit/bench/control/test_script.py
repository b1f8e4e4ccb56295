"""The script of the published numbers: its options and its tables."""

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


def test_a_replay_drives_the_commands_and_keeps_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []

    def run(*words: Any) -> None:
        ran.append([str(word) for word in words])
        if "--out" in ran[-1] and ran[-1][1] == "policies":
            machine = '{"cpu_model": "Some CPU", "num_cores": 2}'
            made = f'{{"machine": {machine}, "stationary": {{}}, "in_turn": null, "shift": null, '
            made += (
                '"acceptance": [{"what": "speed", "bound": 0.9, "found": 0.95, "is_most": false, '
            )
            made += '"is_met": true}]}'
            Path(ran[-1][-1]).write_text(made)

    monkeypatch.setattr(control, "shortstack", run)
    monkeypatch.setattr(control, "RESULTS", tmp_path)
    control.main(["replay", "--prompts", "a.jsonl", "b.jsonl", "--hand-over-ms", "1.5"])
    recorded, replayed = ran
    assert recorded[:2] == ["bench", "record-tapes"]
    assert recorded.count("--prompts") == 2
    assert replayed[replayed.index("--tapes") + 1] == recorded[recorded.index("--out") + 1]
    assert replayed[replayed.index("--hand-over-ms") + 1] == "1.5"
    assert (tmp_path / "control-replay-shortstack-10m-some-cpu-2c.json").is_file()
    assert "| speed | >= 0.9 | 0.95 | met |" in capsys.readouterr().out


def test_live_has_options_of_its_own() -> None:
    options = parse(["live", "--repeats", "2", "--warm-up-tokens", "10"])
    assert (options.what, options.repeats, options.warm_up_tokens) == ("live", 2, 10)
    with pytest.raises(SystemExit):
        parse(["replay", "--repeats", "2"])
