"""Shapes of synthetic models: the table, and the rule for sizes that it lacks."""

import pytest

from shortstack.bench.shapes import SHAPES, parse_params, shape_for


@pytest.mark.parametrize(
    ("text", "number"),
    [("126M", 126_000_000), ("1.5B", 1_500_000_000), (" 42m ", 42_000_000), ("800000", 800_000)],
)
def test_numbers_of_parameters_are_read_with_their_unit(text: str, number: int) -> None:
    assert parse_params(text) == number


@pytest.mark.parametrize("text", ["", "M", "12X", "-3M", "0", "0M", "1,5B", "nan"])
def test_what_is_no_number_of_parameters_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no number of parameters"):
        parse_params(text)


@pytest.mark.parametrize("text", sorted(SHAPES))
def test_shapes_of_the_table_have_the_size_of_their_name(text: str) -> None:
    shape = shape_for(text)
    assert shape == SHAPES[text]
    assert shape.num_params == pytest.approx(parse_params(text), rel=0.05)


def test_the_126m_shape_is_the_one_that_results_are_quoted_for() -> None:
    shape = shape_for("126m")
    assert (shape.num_layers, shape.hidden_size, shape.ffn_size) == (16, 768, 2048)
    assert (shape.num_heads, shape.head_size, shape.vocab_size) == (12, 64, 16384)
    assert shape.num_params == 125_854_464


@pytest.mark.parametrize("text", ["700K", "1M", "5M", "20M", "60M", "250M", "2B", "7B"])
def test_other_sizes_come_close_from_below_and_divide_evenly(text: str) -> None:
    shape = shape_for(text)
    assert 0.9 * parse_params(text) <= shape.num_params <= parse_params(text)
    assert shape.hidden_size == shape.num_heads * shape.head_size
    assert shape.num_heads % shape.num_kv_heads == 0
    assert shape.num_layers >= 4


def test_a_size_below_the_smallest_is_refused_with_the_smallest() -> None:
    with pytest.raises(ValueError, match="too few; the smallest model has"):
        shape_for("1K")
