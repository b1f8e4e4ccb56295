"""The run: golden losses, resuming, settings that cannot work, damaged checkpoints."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from training.errors import TrainingError, run_command
from training.recipe import Recipe
from training.train import (
    Settings,
    load_checkpoint,
    new_run,
    parse_arguments,
    save_checkpoint,
    settings_of,
    start_from,
    train,
    train_step,
)

GOLDEN = Path(__file__).with_name("golden_losses.json")
FLAGS = ["--data", "nowhere", "--out", "nowhere"]


def losses_of(run, tiny: SimpleNamespace, num_steps: int) -> list[dict[int, float]]:
    return [train_step(run, tiny.settings, tiny.tokens) for _ in range(num_steps)]


def test_ten_steps_have_the_recorded_losses(tiny: SimpleNamespace) -> None:
    losses = losses_of(new_run(tiny.settings), tiny, 10)
    recorded = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for found, expected in zip(losses, recorded, strict=True):
        assert {str(layer): loss for layer, loss in found.items()} == pytest.approx(
            expected, abs=1e-4
        )


def test_training_lowers_the_loss_of_the_last_layer(tiny: SimpleNamespace) -> None:
    losses = losses_of(new_run(tiny.settings), tiny, 40)
    assert losses[-1][3] < losses[0][3] - 0.5


def test_a_resumed_run_has_the_losses_of_an_unbroken_one(
    tiny: SimpleNamespace, tmp_path: Path
) -> None:
    unbroken = losses_of(new_run(tiny.settings), tiny, 12)
    run = new_run(tiny.settings)
    losses_of(run, tiny, 5)
    save_checkpoint(run, tiny.settings, tmp_path / "checkpoint.pt")
    resumed = load_checkpoint(tmp_path / "checkpoint.pt", tiny.settings)
    assert (resumed.step, resumed.num_tokens) == (5, 5 * 128)
    assert losses_of(resumed, tiny, 7) == unbroken[5:]


def test_a_continual_run_starts_from_the_weights_of_an_earlier_one(
    tiny: SimpleNamespace, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    earlier = new_run(tiny.settings)
    losses_of(earlier, tiny, 3)
    save_checkpoint(earlier, tiny.settings, path)
    run = start_from(path, replace(tiny.settings, recipe=Recipe(4, p_max=0.2)))
    assert (run.step, run.num_tokens) == (0, earlier.num_tokens)
    weights, expected = run.model.state_dict(), earlier.model.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    with pytest.raises(TrainingError, match="does not exist"):
        start_from(tmp_path / "none.pt", tiny.settings)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match="is damaged"):
        start_from(path, tiny.settings)


def test_micro_batches_of_one_step_share_its_exits_and_count_as_one_step(
    tiny: SimpleNamespace,
) -> None:
    run = new_run(tiny.settings)
    losses = train_step(run, replace(tiny.settings, num_micro_batches=3), tiny.tokens)
    assert run.step == 1
    assert run.num_tokens == 3 * 128
    assert set(losses) == {2, 3}


def test_resuming_may_change_the_number_of_steps_and_nothing_else(
    tiny: SimpleNamespace, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(new_run(tiny.settings), tiny.settings, path)
    assert load_checkpoint(path, replace(tiny.settings, num_steps=9)).step == 0
    changed = replace(tiny.settings, max_norm=2.0, recipe=Recipe(4, p_max=0.2))
    with pytest.raises(TrainingError, match=r"--steps only.*recipe.*max_norm"):
        load_checkpoint(path, changed)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_checkpoint_is_named(
    tiny: SimpleNamespace, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"checkpoint.pt is damaged.*start anew"):
        load_checkpoint(path, tiny.settings)


def test_a_truncated_checkpoint_is_named(tiny: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(new_run(tiny.settings), tiny.settings, path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(TrainingError, match="damaged"):
        load_checkpoint(path, tiny.settings)


def test_resuming_without_a_checkpoint_says_so(tiny: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to resume"):
        load_checkpoint(tmp_path / "checkpoint.pt", tiny.settings)


def test_default_flags_describe_the_bundled_model() -> None:
    settings = settings_of(parse_arguments(FLAGS))
    assert settings == Settings(
        3600, Recipe(12), settings.plan, num_micro_batches=1, peak_learning_rate=1.5e-3
    )


def test_flags_that_cannot_work_are_named_together() -> None:
    flags = [*FLAGS, "--steps", "0", "--step-tokens", "1000", "--kv-heads", "3", "--p-max", "2"]
    with pytest.raises(TrainingError, match=r"--steps.*--step-tokens.*--kv-heads.*p_max"):
        settings_of(parse_arguments(flags))


def test_an_unknown_flag_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments([*FLAGS, "--step", "3"])
    assert ended.value.code == 2
    assert "--step" in capsys.readouterr().err


def test_a_missing_data_directory_ends_the_command_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = parse_arguments(["--data", str(tmp_path / "none"), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: train(args))
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_loss_that_is_no_number_stops_the_run(tiny: SimpleNamespace) -> None:
    run = new_run(tiny.settings)
    run.model.model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="lower --learning-rate"):
        train_step(run, tiny.settings, tiny.tokens)
