"""Whole runs: recorded losses, resuming, accumulation, evaluation, the step counter.

    python -m tests.unit.training.test_run

writes the recorded losses anew; that is right only where the numbers were meant to change.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import TrainerCallback

from tests.training_runs import (
    continued_values,
    losses,
    run_of,
    run_values,
    sources,
    trained,
    weights,
    write_texts,
)
from training import trainer as trainer_module
from training.errors import TrainingError
from training.layerskip import Run, train
from training.recipe import Draws
from training.rows import IGNORED
from training.trainer import LayerSkipTrainer

GOLDEN = Path(__file__).with_name("golden_losses.json")
GROWING = {"start_layers": 2, "grow_at": 0.5}


class Stop(TrainerCallback):
    """Ends a run after a step, as if it had been interrupted."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = state.global_step >= self.step


def golden_run(data: Path, out: Path) -> Run:
    """The run whose losses are recorded: dropout, rotation, tasks, growth."""
    return trained(run_values(recipe=GROWING), data, out)


def test_ten_steps_have_the_recorded_losses(data: Path, out: Path) -> None:
    recorded = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert losses(golden_run(data, out)) == pytest.approx(recorded, abs=1e-4)


def test_training_lowers_the_loss_of_every_exit(data: Path, out: Path) -> None:
    values = run_values(trainer={"max_steps": 40}, data={"sources": sources(tasks=0)})
    run = trained(values, data, out)
    history = run.trainer.state.log_history
    for name in ("loss_exit_2", "loss_exit_3", "loss_exit_4"):
        of_exit = [line[name] for line in history if name in line]
        assert of_exit[-1] < of_exit[0] - 0.5, name


def interrupted_then_resumed(values: dict[str, Any], data: Path, out: Path) -> list[float]:
    """Losses of a run that was stopped after step 4, its last checkpoint being of step 3."""
    saving = {"save_strategy": "steps", "save_steps": 3}
    values = values | {"trainer": values["trainer"] | saving}
    run = run_of(values, data, out)
    run.trainer.add_callback(Stop(4))
    run.trainer.train()
    path = out.with_name("config.yaml")
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    train(path, data, out, resume=True)
    num_steps = values["trainer"]["max_steps"]
    state = json.loads((out / f"checkpoint-{num_steps}/trainer_state.json").read_text())
    return [line["loss"] for line in state["log_history"] if "loss" in line]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"recipe": GROWING},
        {"recipe": {"curriculum": "gradual"}},
        {"data": {"row_len": 16, "long_row_len": 32, "long_share": 0.5}},
        {"trainer": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}},
    ],
    ids=["rotational", "across growth", "gradual", "long rows", "accumulating"],
)
def test_a_resumed_run_has_the_losses_of_an_unbroken_one(
    changes: Mapping[str, Any], data: Path, out: Path
) -> None:
    values = run_values(**changes)
    unbroken = losses(trained(values, data, out.with_name("unbroken")))
    resumed = interrupted_then_resumed(values, data, out)
    assert resumed == pytest.approx(unbroken, abs=1e-6)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_a_resumed_run_with_adapters_has_the_losses_of_an_unbroken_one(
    base: Path, data: Path, out: Path
) -> None:
    values = continued_values(base, lora={"rank": 2})
    torch.manual_seed(3)  # of the adapters
    unbroken = losses(trained(values, data, out.with_name("unbroken")))
    torch.manual_seed(3)
    resumed = interrupted_then_resumed(values, data, out)
    assert resumed == pytest.approx(unbroken, abs=1e-6)


def test_a_run_is_a_pure_function_of_its_configuration(data: Path, out: Path) -> None:
    torch.manual_seed(1)
    first = trained(run_values(), data, out)
    torch.manual_seed(2)
    second = trained(run_values(), data, out.with_name("again"))
    assert losses(first) == losses(second)


@pytest.mark.parametrize("tasks", [0, 0.5], ids=["all tokens", "some tokens"])
def test_accumulating_four_micro_batches_equals_one_batch_four_times_as_large(
    tasks: float, data: Path, out: Path
) -> None:
    runs = []
    for size, number in ((8, 1), (2, 4)):
        batches = {"per_device_train_batch_size": size, "gradient_accumulation_steps": number}
        values = run_values(
            recipe={"p_max": 0.0},
            data={"sources": sources(tasks)},
            trainer=batches | {"optim": "sgd", "max_steps": 4, "learning_rate": 0.5},
        )
        runs.append(trained(values, data, out.with_name(f"out{number}")))
    whole, parts = runs
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-6)
    for name, value in weights(parts).items():
        torch.testing.assert_close(value, weights(whole)[name], msg=name)


def test_micro_batches_of_task_rows_learn_different_numbers_of_tokens(
    data: Path, out: Path
) -> None:
    run = run_of(run_values(data={"sources": sources(0.5)}), data, out)
    mixture = run.trainer.train_dataset
    learnt = [int((mixture[row]["labels"] != IGNORED).sum()) for row in range(8)]
    assert len({sum(learnt[first : first + 2]) for first in range(0, 8, 2)}) > 1


def test_evaluation_advances_neither_step_nor_draws(data: Path, out: Path) -> None:
    plain = trained(run_values(), data, out)
    scoring = {"eval_strategy": "steps", "eval_steps": 1, "eval_on_start": True}
    scored = trained(run_values(trainer=scoring), data, out.with_name("scored"))
    assert losses(scored) == losses(plain)
    history = scored.trainer.state.log_history
    assert [line["step"] for line in history if "eval_loss" in line] == [0, *range(1, 11)]


def recorded_draws(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Step and index of each micro-batch that a plan is made for, from now on."""
    found: list[tuple[int, int]] = []
    made = trainer_module.plan_step

    def plan_step(recipe: Any, draws: Draws, num_steps: int) -> Any:
        found.append((draws.step, draws.micro_batch))
        return made(recipe, draws, num_steps)

    monkeypatch.setattr(trainer_module, "plan_step", plan_step)
    return found


def test_the_step_of_the_recipe_is_that_of_the_optimiser(
    data: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = recorded_draws(monkeypatch)
    batches = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3}
    trained(run_values(trainer=batches | {"max_steps": 3}), data, out)
    assert found == [(step, index) for step in range(3) for index in range(3)]


def test_a_resumed_run_counts_its_steps_on(
    data: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = recorded_draws(monkeypatch)
    interrupted_then_resumed(run_values(trainer={"max_steps": 6}), data, out)
    assert [step for step, _ in found] == [0, 1, 2, 3, 3, 4, 5]


def test_recomputing_layers_in_the_backward_pass_changes_no_loss(data: Path, out: Path) -> None:
    plain = trained(run_values(), data, out)
    values = run_values(trainer={"activation_checkpointing": True})
    recomputed = trained(values, data, out.with_name("recomputed"))
    assert losses(recomputed) == pytest.approx(losses(plain), abs=1e-6)


def test_layers_that_do_not_exist_yet_keep_their_values(data: Path, out: Path) -> None:
    run = run_of(run_values(recipe=GROWING), data, out)
    before = weights(run)
    run.trainer.add_callback(Stop(5))
    run.trainer.train()
    after = weights(run)
    for name in before:
        is_deep = name.startswith(("model.layers.2.", "model.layers.3."))
        assert torch.equal(before[name], after[name]) == is_deep, name


def test_a_growing_run_scores_only_the_exits_that_exist(data: Path, out: Path) -> None:
    scoring = {"eval_strategy": "steps", "eval_steps": 3, "max_steps": 6}
    run = trained(run_values(recipe=GROWING | {"grow_at": 0.7}, trainer=scoring), data, out)
    shallow, deep = [line for line in run.trainer.state.log_history if "eval_loss" in line]
    assert "eval_words/agreement_exit_1" in shallow
    assert "eval_words/agreement_exit_2" not in shallow
    assert "eval_words/agreement_exit_3" in deep
    assert "eval_tasks/exact_match" in deep
    assert "eval_words/exact_match" not in deep


def test_a_loss_that_is_no_number_stops_the_run(data: Path, out: Path) -> None:
    run = run_of(run_values(), data, out)
    with torch.no_grad():
        run.trainer.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"exit 3 is nan at step 0; lower trainer\."):
        run.trainer.train()


@pytest.mark.parametrize(("of_all_ranks", "expected"), [(True, 2), (False, 1)])
def test_the_mean_over_ranks_is_undone_only_where_tokens_of_all_are_counted(
    data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, of_all_ranks: bool, expected: int
) -> None:
    values = run_values(trainer={"average_tokens_across_devices": of_all_ranks})
    trainer = run_of(values, data, out).trainer
    monkeypatch.setattr(type(trainer.accelerator), "num_processes", 2)
    assert trainer._loss_scale(torch.tensor(9)) == expected
    assert trainer._loss_scale(None) == 1


def test_one_process_on_several_devices_is_refused(data: Path, out: Path) -> None:
    trainer = run_of(run_values(), data, out).trainer
    trainer.args._n_gpu = 2
    with pytest.raises(TrainingError, match="cannot train on 2 devices; start one process for"):
        LayerSkipTrainer(
            trainer.model, trainer.args, trainer.recipe, trainer.train_dataset, trainer.held_out
        )


def test_the_written_model_and_report_are_those_of_the_run(data: Path, out: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = out.with_name("config.yaml")
    path.write_text(yaml.safe_dump(run_values(trainer={"max_steps": 3})), encoding="utf-8")
    finished = train(path, data, out, ["name=renamed", "data.sources.0.max_mb=1e-3"])
    assert finished.quality is None
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["config"]["name"] == "renamed"
    assert report["config"]["data"]["sources"][0]["max_mb"] == 0.001
    assert (report["num_steps"], report["num_tokens"]) == (3, 3 * 4 * 16)
    assert report["scores"]["words"]["agreement"][-1] == 1
    model = AutoModelForCausalLM.from_pretrained(out / "model")
    assert len(AutoTokenizer.from_pretrained(out / "model")) == model.config.vocab_size


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = losses(golden_run(write_texts(Path(folder) / "data"), Path(folder) / "out"))
    GOLDEN.write_text(json.dumps([round(loss, 6) for loss in found]) + "\n", encoding="utf-8")
