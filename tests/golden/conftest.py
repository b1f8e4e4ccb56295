"""Models and references that the golden tests share; every stack is loaded once."""

from collections.abc import Iterator

import pytest
import torch

from tests.golden.reference import ModelShelf, TieCount


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """A model this small is faster on one thread, and much faster on a busy machine."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> ModelShelf:
    """Models by kind."""
    return ModelShelf(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def ties() -> Iterator[TieCount]:
    """Near ties met so far; they must stay rare."""
    count = TieCount()
    yield count
    assert count.num_ties <= 1 + count.num_texts // 50, f"near ties are not rare: {count}"
