"""Every layout of a matrix product equals the plain one."""

import pytest
import torch
import torch.nn.functional as F

from shared.model.linear import (
    SMALL_MATRIX_BYTES,
    DeviceLinear,
    Int8Linear,
    PackedLinear,
    TransposedLinear,
    make_draft_head,
    make_linear,
    num_rows_run,
)

LAYOUTS = [DeviceLinear, TransposedLinear, PackedLinear]
ROWS = [1, 2, 3, 4, 5, 8, 9, 17, 32, 33, 40, 127, 129]


def random_tensors(dtype: torch.dtype, num_rows: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(num_rows)
    shapes = [(num_rows, 48), (72, 48), (72,), (num_rows, 72)]
    return tuple(torch.randn(shape, generator=generator).to(dtype) for shape in shapes)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("has_bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("num_rows", ROWS)
def test_a_layout_equals_the_plain_product(
    layout: type[PackedLinear], has_bias: bool, num_rows: int
) -> None:
    x, weight, bias, residual = random_tensors(torch.float32, num_rows)
    kept = x.clone(), residual.clone()
    linear = layout(weight, bias if has_bias else None)
    expected = F.linear(x, weight, bias if has_bias else None)
    with torch.inference_mode():
        torch.testing.assert_close(linear(x), expected, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(linear.add(x, residual), residual + expected, atol=1e-4, rtol=0)
    assert torch.equal(x, kept[0]) and torch.equal(residual, kept[1]), "an input was changed"


@pytest.mark.parametrize("num_rows", [1, 5, 40])
def test_bfloat16_is_packed_and_close_to_float32(num_rows: int) -> None:
    x, weight, bias, residual = random_tensors(torch.bfloat16, num_rows)
    linear = make_linear(weight, bias)
    assert isinstance(linear, PackedLinear)
    expected = F.linear(x.float(), weight.float(), bias.float())
    with torch.inference_mode():
        found, added = linear(x), linear.add(x, residual)
    assert found.dtype == added.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.15, rtol=0.02)
    torch.testing.assert_close(added.float(), residual.float() + expected, atol=0.2, rtol=0.03)


def test_matrices_beyond_the_cache_are_packed_and_small_ones_transposed() -> None:
    small = torch.zeros(16, 16)
    large = torch.zeros(1, SMALL_MATRIX_BYTES // 4 + 1)
    assert isinstance(make_linear(small), TransposedLinear)
    assert isinstance(make_linear(large), PackedLinear)


def test_a_row_is_the_same_in_every_batch() -> None:
    x, weight, bias, _ = random_tensors(torch.float32, 40)
    for layout in LAYOUTS:
        linear = layout(weight, bias)
        with torch.inference_mode():
            whole = linear(x)
            for num_rows in ROWS:
                torch.testing.assert_close(
                    linear(x[:num_rows]), whole[:num_rows], atol=1e-4, rtol=0
                )


def test_a_rough_head_is_near_the_plain_product_and_made_only_where_it_pays() -> None:
    assert make_draft_head(torch.zeros(16, 16)) is None
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(SMALL_MATRIX_BYTES // 4 // 64 + 64, 64, generator=generator)
    rough = make_draft_head(weight)
    if rough is None:
        pytest.skip("this CPU has no int8 instructions")
    assert isinstance(rough, Int8Linear)
    for num_rows in (1, 5):
        x = torch.randn(num_rows, 64, generator=generator)
        expected = x @ weight.t()
        with torch.inference_mode():
            found = rough(x)
        assert found.dtype == torch.float32
        assert (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_packed_products_run_at_few_numbers_of_rows_and_few_are_added() -> None:
    run = [num_rows_run(num_rows) for num_rows in range(1, 545)]
    assert run[:32] == list(range(1, 33))
    assert all(num_rows <= each for num_rows, each in enumerate(run, 1))
    assert sum(run) < 1.06 * sum(range(1, 545))
    assert len(set(run)) < 60
    assert [num_rows_run(each) for each in run] == run
