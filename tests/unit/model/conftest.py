"""Tiny models on disk, one per family."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.model_builder import write_model


@pytest.fixture(scope="package")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the directory of a kind's model, written once."""
    folder = tmp_path_factory.mktemp("models")

    def path_of(kind: str) -> Path:
        path = folder / kind
        return path if path.exists() else write_model(path, kind)

    return path_of
