"""How many threads passes are worth, and that runs of layers are fitted to that."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from shared.model.compute_threads import MIN_PRODUCTS, MIN_WEIGHTS, ComputeThreads
from shared.model.layer_stack import LayerStack, load_stack
from shared.model.plain import PlainDecoder
from shared.speculation.vocabulary import SamplingParams, StopParams

SMALL, LARGE = MIN_WEIGHTS // 2, 3 * MIN_WEIGHTS


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """What a test sets goes no further."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def stack(model_path: Callable[[str], Path]) -> LayerStack:
    """A stack of its own: others go on as they were."""
    return load_stack(model_path("llama"))


@pytest.mark.parametrize(
    ("num_weights", "num_rows", "most", "expected"),
    [
        pytest.param(SMALL, 1, 8, 1, id="small, one row"),
        pytest.param(SMALL, 13, 8, 1, id="small, a verified draft"),
        pytest.param(SMALL, 5 * MIN_PRODUCTS // SMALL, 8, 5, id="small, a prefill"),
        pytest.param(SMALL, 5 * MIN_PRODUCTS // SMALL, 4, 4, id="no more than there are"),
        pytest.param(LARGE, 1, 8, 3, id="large: reading its weights is divided"),
        pytest.param(LARGE, 1, 2, 2, id="large, few processors"),
    ],
)
def test_threads_follow_the_work_of_a_pass(
    num_weights: int, num_rows: int, most: int, expected: int
) -> None:
    assert ComputeThreads(num_weights, most).at(num_rows) == expected


def test_a_number_that_is_named_holds_for_every_pass(stack: LayerStack) -> None:
    assert [ComputeThreads.for_model(stack.config, 3).at(rows) for rows in (1, 10**9)] == [3, 3]


def test_without_a_number_torch_says_how_many_there_are(stack: LayerStack) -> None:
    torch.set_num_threads(2)
    threads = ComputeThreads.for_model(stack.config)
    assert [threads.at(rows) for rows in (1, 10**9)] == [1, 2]


def test_a_run_of_layers_is_fitted_and_tells_the_same_text(stack: LayerStack) -> None:
    prompt = list(range(3, 40))
    decoder = PlainDecoder(stack.config.path, stack=stack)
    expected = decoder.generate(prompt, SamplingParams(), StopParams(20)).token_ids
    # One row is worth one thread, the prompt two.
    stack.threads = ComputeThreads(MIN_PRODUCTS // 18, 2)
    torch.set_num_threads(2)
    found = decoder.generate(prompt, SamplingParams(), StopParams(20)).token_ids
    assert found == expected
    assert torch.get_num_threads() == 1
    decoder.generate(prompt, SamplingParams(), StopParams(1))
    assert torch.get_num_threads() == 2


def test_a_stack_that_is_not_told_leaves_threads_alone(stack: LayerStack) -> None:
    decoder = PlainDecoder(stack.config.path, stack=stack)
    torch.set_num_threads(2)
    decoder.generate([5, 6, 7], SamplingParams(), StopParams(2))
    assert torch.get_num_threads() == 2
