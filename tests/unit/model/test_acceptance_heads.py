"""The maths of acceptance heads, against plain torch."""

import math

import pytest
import torch
from torch import nn

from shared.model.acceptance_heads import BARE_SCALE, AcceptanceHead, AcceptanceHeads, bare_chances

HIDDEN_SIZE, WIDTH, NUM_ROWS = 6, 4, 5


@pytest.fixture
def head() -> AcceptanceHead:
    generator = torch.Generator().manual_seed(3)
    shapes = ((WIDTH, 3 * HIDDEN_SIZE + 1), (WIDTH,), (WIDTH,), (), ())
    return AcceptanceHead(*(torch.randn(shape, generator=generator) for shape in shapes))


def test_a_head_is_a_small_network_beside_a_scaled_gap(head: AcceptanceHead) -> None:
    z_RD, a_RD, b_RD = torch.randn(3, NUM_ROWS, HIDDEN_SIZE)
    gaps_R, warm_R = torch.rand(2, NUM_ROWS)
    network = nn.Sequential(nn.Linear(3 * HIDDEN_SIZE + 1, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 1))
    with torch.no_grad():
        network[0].weight.copy_(head.down_MF)
        network[0].bias.copy_(head.bias_M)
        network[2].weight.copy_(head.up_M[None])
        network[2].bias.copy_(head.offset[None])
        seen_RF = torch.cat((z_RD, a_RD, b_RD, warm_R[:, None]), -1)
        expected = torch.sigmoid(head.scale * gaps_R + network(seen_RF).squeeze(-1))
    torch.testing.assert_close(head(z_RD, a_RD, b_RD, gaps_R, warm_R), expected)


def test_every_row_has_a_chance_of_its_own(head: AcceptanceHead) -> None:
    rows = torch.randn(3, NUM_ROWS, HIDDEN_SIZE)
    gaps_R, warm_R = torch.rand(2, NUM_ROWS)
    together = head(*rows, gaps_R, warm_R)
    for index in range(NUM_ROWS):
        own = slice(index, index + 1)
        alone = head(*rows[:, own], gaps_R[own], warm_R[own])
        torch.testing.assert_close(alone, together[own])


def test_heads_tell_their_sizes(head: AcceptanceHead) -> None:
    heads = AcceptanceHeads("some", {3: head, 1: head}).to(torch.device("cpu"))
    assert (heads.exit_layers, heads.width, heads.hidden_size) == ((1, 3), WIDTH, HIDDEN_SIZE)


def test_without_a_head_the_gap_tells() -> None:
    expected = [0.5, 1 / (1 + math.exp(-BARE_SCALE)), 1.0, 0.0]
    assert bare_chances([0.0, 1.0, math.inf, math.nan]) == pytest.approx(expected)
