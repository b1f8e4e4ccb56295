"""A tiny model for tests that run the engine."""

import pytest

from shared.model.layer_stack import LayerStack, load_stack
from tests.model_builder import write_model


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> LayerStack:
    """A tiny model."""
    return load_stack(write_model(tmp_path_factory.mktemp("models") / "tiny"))
