"""Training on several CPU processes of this machine: what each of them saw, as values."""

import multiprocessing
import os
import socket
import time
from collections.abc import Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch

from tests.training_runs import losses, run_of, weights
from training.recipe import Draws

TIMEOUT_S = 100


class RecordedDraws(Draws):
    """Draws that note the rows they keep, by step, micro-batch and layer."""

    kept: list[tuple[int, int, int, list[int]]] = []  # noqa: RUF012

    def kept_rows(self, layer: int, num_rows: int, probability: float) -> Sequence[int]:
        """As drawn, and noted."""
        rows = super().kept_rows(layer, num_rows, probability)
        self.kept.append((self.step, self.micro_batch, layer, list(rows)))
        return rows


def train_and_note(values: dict[str, Any], data: Path, out: Path) -> dict[str, Any]:
    """Carry out a run; return losses, kept rows and weights."""
    from training import trainer

    trainer.Draws, RecordedDraws.kept = RecordedDraws, []  # type: ignore[misc]
    try:
        run = run_of(values, data, out)
        run.trainer.train()
    finally:
        trainer.Draws = Draws  # type: ignore[misc]
    return {"losses": losses(run), "kept": RecordedDraws.kept, "weights": weights(run)}


def train_on_ranks(
    num_ranks: int, runs: Sequence[dict[str, Any]], data: Path, folder: Path
) -> list[list[dict[str, Any]]]:
    """Carry out runs one after the other on num_ranks processes; return notes by run and rank."""
    context = multiprocessing.get_context("spawn")
    port = _free_port()
    children = [
        context.Process(target=_rank, args=(rank, num_ranks, port, runs, data, folder), daemon=True)
        for rank in range(num_ranks)
    ]
    for child in children:
        child.start()
    try:
        _wait(children)
    finally:
        for child in children:
            child.kill()
            child.join()
    codes = [child.exitcode for child in children]
    assert codes == [0] * num_ranks, f"exit codes {codes}"
    return [
        [torch.load(folder / f"{index}.{rank}.pt") for rank in range(num_ranks)]
        for index in range(len(runs))
    ]


def _wait(children: Sequence[Any]) -> None:
    """Until all have ended, one has failed, or the time is up."""
    deadline = time.monotonic() + TIMEOUT_S
    while running := [child for child in children if child.exitcode is None]:
        ended = connection.wait([child.sentinel for child in running], deadline - time.monotonic())
        if not ended or any(child.exitcode for child in children):
            return


def _rank(
    rank: int, num_ranks: int, port: int, runs: Sequence[dict[str, Any]], data: Path, folder: Path
) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_ranks),
        "LOCAL_WORLD_SIZE": str(num_ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    for index, values in enumerate(runs):
        notes = train_and_note(values, data, folder / f"out{index}")
        torch.save(notes, folder / f"{index}.{rank}.pt")
    torch.distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
