"""A tiny model for tests that run the engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from shared.model.layer_stack import LayerStack, load_stack
from tests.model_builder import write_model


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LayerStack]:
    """A tiny model on one thread."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    path: Path = write_model(tmp_path_factory.mktemp("models") / "tiny")
    yield load_stack(path)
    torch.set_num_threads(num_threads)
