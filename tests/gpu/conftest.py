"""Skips the whole folder, with the reason, where there is no CUDA device."""

from pathlib import Path

import pytest
import torch

from tests.model_builder import write_model


@pytest.fixture(scope="session", autouse=True)
def cuda_device() -> torch.device:
    """The first CUDA device."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: torch.cuda.is_available() is false")
    return torch.device("cuda", 0)


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model."""
    return write_model(tmp_path_factory.mktemp("gpu-models") / "tiny", "llama")
