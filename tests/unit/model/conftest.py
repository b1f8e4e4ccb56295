"""Tiny models on disk, one per family, and one thread to run them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.model_builder import write_model


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """A model this small is faster on one thread, and much faster on a busy machine."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="package")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the directory of a kind's model, written once."""
    folder = tmp_path_factory.mktemp("models")

    def path_of(kind: str) -> Path:
        path = folder / kind
        return path if path.exists() else write_model(path, kind)

    return path_of
