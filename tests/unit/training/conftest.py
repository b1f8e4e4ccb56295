"""Texts and places of the small runs."""

from pathlib import Path

import pytest

from tests.training_runs import write_base, write_texts


@pytest.fixture(autouse=True)
def logs_in_the_test_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run names its log directory in the environment."""
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory."""
    return write_texts(tmp_path / "data")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The directory of the run."""
    return tmp_path / "out"


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory to go on from."""
    return write_base(tmp_path_factory.mktemp("base") / "model")
