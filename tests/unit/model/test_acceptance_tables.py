"""Acceptance heads in tables tell what the heads themselves do."""

import pytest
import torch

from shared.ids import TokenId
from shared.model.acceptance_heads import (
    AcceptanceHead,
    AcceptanceHeads,
    bare_chances,
    num_features,
)
from shared.model.acceptance_tables import TOKENS_AT_ONCE, AcceptanceTables, Pair

HIDDEN_SIZE, WIDTH, NUM_ROWS = 6, 4, 5
EXITS = (1, 3)


@pytest.fixture
def heads() -> AcceptanceHeads:
    generator = torch.Generator().manual_seed(3)
    shapes = ((WIDTH, num_features(HIDDEN_SIZE)), (WIDTH,), (WIDTH,), (), ())
    return AcceptanceHeads(
        "some",
        {
            each: AcceptanceHead(*(torch.randn(shape, generator=generator) for shape in shapes))
            for each in EXITS
        },
    )


def told_by_head(
    head: AcceptanceHead,
    z_RD: torch.Tensor,
    token_rows_VD: torch.Tensor,
    pairs: list[Pair],
    gaps: list[float],
    temperatures: list[float],
) -> list[float]:
    a_RD, b_RD = (token_rows_VD[list(ids)].float() for ids in zip(*pairs, strict=True))
    told: list[float] = head(
        z_RD.float(), a_RD, b_RD, torch.tensor(gaps), torch.tensor(temperatures)
    ).tolist()
    return told


@pytest.mark.parametrize("is_sampled", [False, True])
@pytest.mark.parametrize("num_tokens", [7, TOKENS_AT_ONCE + 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tables_tell_what_heads_do(
    heads: AcceptanceHeads, num_tokens: int, dtype: torch.dtype, is_sampled: bool
) -> None:
    token_rows_VD = torch.randn(num_tokens, HIDDEN_SIZE).to(dtype)
    z_RD = torch.randn(NUM_ROWS, HIDDEN_SIZE).to(dtype)
    ids = torch.randint(num_tokens, (NUM_ROWS, 2)).tolist()
    pairs = [(TokenId(first), TokenId(second)) for first, second in ids]
    gaps = torch.rand(NUM_ROWS).tolist()
    temperatures = [0.0, 0.8, 0.5, 0.0, 1.0] if is_sampled else [0.0] * NUM_ROWS
    tables = AcceptanceTables(heads, token_rows_VD)
    for exit_layer, head in heads.by_exit.items():
        expected = told_by_head(head, z_RD, token_rows_VD, pairs, gaps, temperatures)
        found = tables.chances(z_RD, [exit_layer] * NUM_ROWS, pairs, gaps, temperatures)
        assert found == pytest.approx(expected, abs=1e-5)
        for row in range(NUM_ROWS):
            own = slice(row, row + 1)
            alone = tables.chances(
                z_RD[own], [exit_layer], pairs[own], gaps[own], temperatures[own]
            )
            assert alone == pytest.approx(expected[own], abs=1e-5)


def test_rows_go_by_the_head_of_their_own_exit(heads: AcceptanceHeads) -> None:
    token_rows_VD, z_RD = torch.randn(9, HIDDEN_SIZE), torch.randn(6, HIDDEN_SIZE)
    read_at = [3, 3, 2, 1, 3, 2]
    pairs = [(TokenId(row), TokenId(row + 1)) for row in range(6)]
    gaps = [0.1 * row for row in range(6)]
    warm = [0.2 * row for row in range(6)]
    found = AcceptanceTables(heads, token_rows_VD).chances(z_RD, read_at, pairs, gaps, warm)
    for row, exit_layer in enumerate(read_at):
        own = slice(row, row + 1)
        head = heads.by_exit.get(exit_layer)
        if head is None:
            expected = bare_chances(gaps[own])
        else:
            expected = told_by_head(
                head, z_RD[own], token_rows_VD, pairs[own], gaps[own], warm[own]
            )
        assert found[row] == pytest.approx(expected[0], abs=1e-5)


def test_no_gap_is_no_chance(heads: AcceptanceHeads) -> None:
    tables = AcceptanceTables(heads, torch.randn(3, HIDDEN_SIZE))
    assert tables.chances(
        torch.randn(1, HIDDEN_SIZE), [1], [(TokenId(0), TokenId(1))], [float("nan")], [0.0]
    ) == [0.0]
