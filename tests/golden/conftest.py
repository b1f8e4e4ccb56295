"""Models and references that the golden tests share; every stack is loaded once."""

from collections.abc import Iterator

import pytest

from tests.golden.reference import ModelShelf, TieCount


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
