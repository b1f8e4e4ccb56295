"""Data-parallel training: two processes compute what one does on the same global batch."""

from typing import Any

import pytest
import torch

from tests.training_ranks import train_and_note, train_on_ranks
from tests.training_runs import run_values, sources, write_texts

pytestmark = pytest.mark.timeout(120)  # two more processes load torch, maybe on a busy machine


def values_of(p_max: float, num_ranks: int) -> dict[str, Any]:
    """Three steps of eight rows, of which half are tasks of different lengths."""
    return run_values(
        recipe={"p_max": p_max, "dropout_scale": "constant"},
        data={"sources": sources(0.5)},
        trainer={
            "max_steps": 3, "optim": "sgd", "learning_rate": 0.5,
            "per_device_train_batch_size": 4 // num_ranks, "gradient_accumulation_steps": 2,
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Runs of two processes, with and without dropout, by rank; and that of one without."""
    folder = tmp_path_factory.mktemp("ranks")
    data = write_texts(folder / "data")
    runs = [values_of(p_max, 2) for p_max in (0.0, 0.5)]
    plain, dropping = train_on_ranks(2, runs, data, folder)
    alone = train_and_note(values_of(0.0, 1), data, folder / "alone")
    return {"plain": plain, "dropping": dropping, "alone": [alone]}


def test_two_processes_compute_what_one_does_on_the_same_rows(notes) -> None:
    (alone,) = notes["alone"]
    assert notes["plain"][0]["losses"] == pytest.approx(alone["losses"], abs=1e-5)
    for rank in notes["plain"]:
        for name, value in alone["weights"].items():
            torch.testing.assert_close(rank["weights"][name], value, msg=name)


def test_all_processes_drop_the_same_slots(notes) -> None:
    first, second = notes["dropping"]
    assert first["kept"] == second["kept"]
    assert any(len(rows) < 2 for _, _, _, rows in first["kept"])


def test_all_processes_end_with_the_same_weights_under_dropout(notes) -> None:
    first, second = notes["dropping"]
    for name, value in first["weights"].items():
        assert torch.equal(second["weights"][name], value), name
