"""Runs of the training package on models of a few layers, with texts written on the spot."""

import json
from pathlib import Path
from typing import Any

import torch

from tests.model_builder import write_model
from training.config import RunConfig, checked
from training.layerskip import Run, set_up
from training.tokenizer import END, train_tokenizer

VOCAB_SIZE = 300
ROW_LEN = 16
NUM_LAYERS = 4
MAX_POSITIONS = 64
WORDS = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]


def sentence(number: int) -> str:
    """A sentence with some order in it; every number has its own."""
    words = [WORDS[(number * step) % len(WORDS)] for step in (1, 3, 5, 7)]
    return f"After {words[0]} comes {words[1]}, and {number} is {' or '.join(words[2:])}."


def write_texts(folder: Path) -> Path:
    """Write running text and tasks, for training and held out; the tasks differ in length."""
    folder.mkdir(parents=True, exist_ok=True)
    for first, split in enumerate(("train", "valid")):
        numbers = range(1000 * first, 1000 * first + 60)
        text = "".join(f"{sentence(number)}\n{END}\n" for number in numbers)
        (folder / f"words.{split}.txt").write_text(text, encoding="utf-8")
        tasks = [{"prompt": f"{n}:", "completion": " " + "ab" * (n % 6)} for n in numbers]
        lines = "".join(f"{json.dumps(task)}\n" for task in tasks)
        (folder / f"tasks.{split}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def sources(tasks: float = 0.25) -> list[dict[str, Any]]:
    """The `data.sources` of the texts above; `tasks` is the share of rows with a prompt."""
    found = [
        {"name": "words", "share": 1 - tasks, "train": ["words.train*"], "valid": ["words.valid*"]},
        {
            "name": "tasks", "share": tasks, "format": "jsonl",
            "train": ["tasks.train*"], "valid": ["tasks.valid*"],
        },
    ]  # fmt: skip
    return [source for source in found if float(str(source["share"])) > 0]


def run_values(**changes: dict[str, Any] | None) -> dict[str, Any]:
    """A configuration from scratch; changes are merged section by section, None leaves one out."""
    values: dict[str, Any] = {
        "name": "tiny",
        "seed": 7,
        "model": {
            "init": {
                "model_type": "llama", "hidden_size": 16, "intermediate_size": 24,
                "num_hidden_layers": NUM_LAYERS, "num_attention_heads": 2,
                "num_key_value_heads": 1, "head_dim": 8, "tie_word_embeddings": True,
                "max_position_embeddings": MAX_POSITIONS,
            },
            "store_dtype": "float32",
        },
        "tokenizer": {"vocab_size": VOCAB_SIZE},
        "data": {"row_len": ROW_LEN, "valid_rows": 4, "sources": sources()},
        "recipe": {"p_max": 0.5, "rotation": 2, "e_scale": 1.0},
        "trainer": {
            "max_steps": 10, "per_device_train_batch_size": 4, "learning_rate": 0.01,
            "logging_steps": 1, "save_strategy": "no", "use_cpu": True, "report_to": [],
        },
    }  # fmt: skip
    for section, value in changes.items():
        if value is None:
            del values[section]
        elif isinstance(value, dict):
            values[section] = values.get(section, {}) | value
        else:
            values[section] = value
    return values


def continued_values(model: Path, **changes: Any) -> dict[str, Any]:
    """A configuration that goes on from a model directory."""
    values = run_values(**({"tokenizer": None} | changes))
    return values | {"model": {"path": str(model), "store_dtype": "float32"}}


def config_of(values: dict[str, Any]) -> RunConfig:
    """The checked configuration."""
    return checked(values, "of the test")


def run_of(values: dict[str, Any], data: Path, out: Path) -> Run:
    """A run that is ready to begin."""
    return set_up(config_of(values), data, out)


def trained(values: dict[str, Any], data: Path, out: Path) -> Run:
    """A run that has ended."""
    run = run_of(values, data, out)
    run.trainer.train()
    return run


def losses(run: Run) -> list[float]:
    """Loss of every step; logging_steps is 1 here."""
    return [line["loss"] for line in run.trainer.state.log_history if "loss" in line]


def weights(run: Run) -> dict[str, torch.Tensor]:
    """All parameters."""
    return {name: value.detach().clone() for name, value in run.trainer.model.named_parameters()}


def write_base(path: Path, kind: str = "llama", **options: Any) -> Path:
    """Write a random model directory with a tokenizer, to go on from."""
    sizes = {"vocab_size": VOCAB_SIZE, "hidden_size": 16, "intermediate_size": 24}
    write_model(path, kind, **(sizes | {"max_position_embeddings": MAX_POSITIONS} | options))
    texts = [sentence(number) for number in range(200)]
    train_tokenizer(texts, VOCAB_SIZE, MAX_POSITIONS).save_pretrained(path)
    return path
