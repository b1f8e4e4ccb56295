"""`shortstack train` as a user types it: what it prints, what it writes, how it refuses."""

import json
from pathlib import Path

import pytest
import yaml

from shortstack.cli import app
from tests.training_runs import continued_values, run_values
from training.card import write_card
from training.errors import TrainingError


def write_config(folder: Path, values: dict[str, object]) -> Path:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def shortstack(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run the command line in this process."""
    with pytest.raises(SystemExit) as stopped:
        app(args=arguments, prog_name="shortstack")
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def arguments_of(config: Path, data: Path, out: Path) -> list[str]:
    return ["train", "layerskip", "--config", str(config), "--data", str(data), "--out", str(out)]


def test_a_run_shows_its_exits_and_leaves_model_card_and_report(
    data: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2}
    config = write_config(tmp_path, run_values(trainer=changes))
    arguments = [*arguments_of(config, data, out), "card.title=Tiny", "card.notes=Made of words."]
    status, printed, _ = shortstack(arguments, capsys)
    assert status == 0
    assert "share of the loss on the last layer" in printed
    assert "step 2: agreement" in " ".join(printed.split())
    assert "step 4 of 4: loss" in printed
    card = (out / "model" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: transformers")
    assert "# Tiny" in card and "Made of words." in card
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["num_steps"] == 4
    share = report["scores"]["words"]["agreement"][1]
    assert f"| words | {report['scores']['words']['agreement'][0]:.2f} | {share:.2f} |" in card


def test_a_run_from_a_model_ends_with_its_last_layer_before_and_after(
    data: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, run_values(trainer={"max_steps": 40}))
    assert shortstack(arguments_of(config, data, tmp_path / "base"), capsys)[0] == 0
    ruinous = {"max_steps": 10, "learning_rate": 1.0}
    values = continued_values(tmp_path / "base" / "model", trainer=ruinous)
    config = write_config(tmp_path, values)
    status, printed, _ = shortstack(arguments_of(config, data, out), capsys)
    assert status == 0
    assert "last layer: before and after" in " ".join(printed.split())
    assert "warning: words: the last layer's loss rose" in printed
    card = (out / "model" / "README.md").read_text(encoding="utf-8")
    assert "## What it cost the last layer" in card
    assert "Warning: words: the last layer's loss rose" in card


def test_layers_may_be_compiled_without_another_result(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.nn.Module.compile", lambda layer, **_: compiled.append(layer))
    compiled: list[object] = []
    config = write_config(tmp_path, run_values(trainer={"max_steps": 1}))
    arguments = [*arguments_of(config, data, tmp_path / "out"), "model.compile_layers=true"]
    assert shortstack(arguments, capsys)[0] == 0
    assert len(compiled) == 4


def test_bad_input_is_one_line_and_a_status(
    data: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, run_values())
    arguments = [*arguments_of(config, data, out), "recipe.p_maks=0.1"]
    status, printed, error = shortstack(arguments, capsys)
    assert status == 1 and not printed
    assert error.count("\n") == 1
    assert "recipe.p_maks is not known, did you mean p_max?" in error


def test_a_card_needs_a_finished_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"report\.json.*finish the run first"):
        write_card(tmp_path)


def test_a_card_shows_the_comparison(
    data: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, run_values(trainer={"max_steps": 1}))
    assert shortstack(arguments_of(config, data, out), capsys)[0] == 0
    scores = json.loads((out / "report.json").read_text(encoding="utf-8"))["scores"]
    comparison = tmp_path / "comparison.json"
    values = {
        "description": "Two arms.",
        "exits": [1, 2],
        "arms": {"control": scores, "recipe": scores},
        "verdict": "They are the same.",
    }
    comparison.write_text(json.dumps(values), encoding="utf-8")
    arguments = ["train", "card", "--run", str(out), "--comparison", str(comparison)]
    assert shortstack(arguments, capsys)[0] == 0
    card = (out / "model" / "README.md").read_text(encoding="utf-8")
    assert "## With and without the recipe" in card
    assert "They are the same." in card
    assert card.count("| control |") == len(scores) == card.count("| recipe |")


def test_a_damaged_comparison_is_named(
    data: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, run_values(trainer={"max_steps": 1}))
    assert shortstack(arguments_of(config, data, out), capsys)[0] == 0
    comparison = tmp_path / "comparison.json"
    comparison.write_text("{", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"comparison\.json.*bench\.exit_training"):
        write_card(out, comparison)
