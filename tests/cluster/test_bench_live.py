"""Static settings and the controller on a real stack, costs measured in turn with the texts."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from shortstack.bench.control.costs_file import times_from_json
from shortstack.bench.control.fit import read_fit
from shortstack.cli import app

SETTINGS = [f"E{e} d{k}" for e in (1, 2) for k in (2, 4)]


def run_cli(*words: object) -> object:
    """Run a command of the bench; return its exit status."""
    with pytest.raises(SystemExit) as ended:
        app(args=["bench", "policies-live", *map(str, words)], prog_name="shortstack")
    return ended.value.code


def test_settings_are_served_beside_goodput_and_predicted_by_each_other(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "live.json"
    lines = [{"id": name, "kind": "odd", "token_ids": [5, 7, 9]} for name in ("a", "b")]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    texts = ("--model", model_dir, "--prompts", prompts, "--max-new-tokens", 12, "--num-threads", 1)
    turns = ("--exits", "1,2", "--draft-lens", "2,4", "--repeats", 1, "--warm-up-tokens", 0)
    status = run_cli(*texts, *turns, "--measure-costs", "--out", out)
    assert status in (0, None), capsys.readouterr().err
    found = json.loads(out.read_text())
    assert found["num_mismatches"] == 0
    # Plain decoding takes part twice.
    assert found["num_texts"] == len(lines) * (len(SETTINGS) + 3)
    (kind,) = found["kinds"]
    assert set(kind["over_plain"]) == {"plain", *SETTINGS, "goodput", "plain again"}
    assert [check["name"] for check in found["checks"]] == SETTINGS
    assert all(check["predicted_ns"] is not None for check in found["checks"])
    fit = read_fit(out)
    assert fit.plain_stretch > 0.0
    assert min(asdict(fit).values()) >= 0.0
    times = times_from_json(found["times"])
    assert times.exits == (1, 2)
    assert times.pass_stretch == pytest.approx(fit.pass_stretch, rel=1e-3)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--costs", "x.json"), "--measure-costs"),
        (("--exits", "99"), "--exits: 99"),
        (("--draft-lens", ""), "no static setting"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_starts(
    model_dir: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], expected: str
) -> None:
    assert run_cli("--model", model_dir, "--measure-costs", *words) == 2
    written = capsys.readouterr().err
    assert expected in written
    assert "Traceback" not in written
