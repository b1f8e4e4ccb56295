"""The clock of a run counts on from the checkpoint that the run goes on from."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainingArguments

from training.clock import FILE_NAME, Clock, seconds_of


def test_the_seconds_lie_beside_the_checkpoint_and_count_on(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-3"
    checkpoint.mkdir()
    (checkpoint / FILE_NAME).write_text('{"elapsed_s": 100.0}', encoding="utf-8")
    clock = Clock(str(checkpoint))
    assert clock.elapsed_s >= 100.0
    later = tmp_path / "checkpoint-5"
    later.mkdir()
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[])
    state: Any = SimpleNamespace(global_step=5, is_world_process_zero=True)
    control: Any = SimpleNamespace()
    clock.on_save(arguments, state, control)
    kept = json.loads((later / FILE_NAME).read_text(encoding="utf-8"))
    assert kept["elapsed_s"] == pytest.approx(clock.elapsed_s, abs=60)
    assert kept["elapsed_s"] >= 100.0


def test_a_checkpoint_that_does_not_say_counts_from_0(tmp_path: Path) -> None:
    assert seconds_of(tmp_path) == 0.0


def test_reading_before_the_first_step_does_not_count(tmp_path: Path) -> None:
    clock = Clock(None)
    clock.started_s -= 1000.0
    state: Any = SimpleNamespace(global_step=0, is_world_process_zero=True)
    control: Any = SimpleNamespace()
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[])
    clock.on_train_begin(arguments, state, control)
    assert clock.elapsed_s < 900.0
