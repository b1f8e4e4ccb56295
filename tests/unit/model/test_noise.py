"""The noise that draft and target share: golden numbers, distribution, and agreement under it."""

import math

import pytest
import torch

from shared.model.noise import gumbel, mix_key
from shared.model.sampling import RowChoice, choose
from shared.speculation.vocabulary import SamplingParams

CPU = torch.device("cpu")
TOKENS = [0, 1, 2, 3, 31_999, 151_935]
# (seed, position, key, noise of TOKENS): texts of former releases depend on these.
GOLDEN = [
    (0, 0, 0x48218226FF3CD4BF, [-0.198995, 1.049555, 0.537462, 0.12875, 0.046837, 0.315556]),
    (0, 1, 0x8A774D68D2EB75AC, [0.730352, 1.476198, -0.419655, 1.114658, 1.722908, 0.871833]),
    (1, 0, 0xDCE423FC82C0D5B8, [0.524937, -0.648278, -1.336552, -0.368167, -0.568731, 2.270808]),
    (
        18446744073709551615,
        12345,
        0xC92A4BDC85CD47FB,
        [-0.647683, -0.037019, 2.072714, 0.760619, 2.51492, 1.361509],
    ),
    (
        42,
        4095,
        0xE9971BE7CD83C907,
        [-0.797326, -0.334624, -0.547316, -0.67528, -0.172681, 0.544643],
    ),
]


@pytest.mark.parametrize(("seed", "position", "key", "values"), GOLDEN)
def test_noise_is_what_it_has_always_been(
    seed: int, position: int, key: int, values: list[float]
) -> None:
    assert mix_key(seed, position) == key
    noise = gumbel(seed, [position], 151_936, CPU)
    assert noise.dtype == torch.float32
    assert noise[0, TOKENS].tolist() == pytest.approx(values, abs=2e-6)


def test_noise_depends_on_seed_position_and_token_alone() -> None:
    positions = [3, 99, 7, 12]
    whole = gumbel(5, positions, 1000, CPU)
    for row, position in enumerate(positions):
        assert torch.equal(gumbel(5, [position], 1000, CPU)[0], whole[row])
    order = [2, 0, 3, 1]
    assert torch.equal(gumbel(5, [positions[i] for i in order], 1000, CPU), whole[order])
    # A larger vocabulary goes on; it changes nothing before.
    assert torch.equal(gumbel(5, positions, 1500, CPU)[:, :1000], whole)


def test_seeds_and_positions_do_not_repeat_each_other() -> None:
    rows = [gumbel(seed, [position], 64, CPU)[0] for seed in range(20) for position in range(20)]
    assert len({tuple(row.tolist()) for row in rows}) == len(rows)


def test_noise_is_standard_gumbel() -> None:
    noise = gumbel(1234, list(range(50)), 4000, CPU).double().flatten()
    count = noise.numel()
    euler, variance = 0.5772156649, math.pi**2 / 6
    assert abs(noise.mean() - euler) < 5 * math.sqrt(variance / count)
    assert abs(noise.var() - variance) < 0.03
    assert noise.isfinite().all()
    # Uniform after undoing the two logarithms: chi-square over 100 cells, mean 99, deviation 14.
    uniform = (-(-noise).exp()).exp()
    counts = torch.histc(uniform, 100, 0.0, 1.0)
    chi_square = ((counts - count / 100) ** 2 / (count / 100)).sum().item()
    assert 40 < chi_square < 180


def test_neighbouring_positions_and_tokens_are_not_correlated() -> None:
    noise = gumbel(7, list(range(400)), 400, CPU).double()
    noise = (noise - noise.mean()) / noise.std()
    for shifted in ((noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1])):
        assert abs((shifted[0] * shifted[1]).mean()) < 5 / 400


def test_sampled_tokens_follow_the_distribution() -> None:
    logits = torch.tensor([1.2, 0.0, -0.7, 2.0, 0.4])
    params = SamplingParams(0.8, seed=99)
    num_draws = 20_000
    tokens = choose(
        logits.expand(num_draws, 5), [RowChoice(params, position) for position in range(num_draws)]
    ).tokens
    expected = (logits / 0.8).softmax(-1) * num_draws
    counts = torch.bincount(torch.tensor(tokens), minlength=5)
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    # Four degrees of freedom: beyond 23 once in ten thousand.
    assert chi_square < 23


def expected_agreement(p: torch.Tensor, q: torch.Tensor) -> float:
    """A(p, q) = sum_i 1 / sum_j max(p_j / p_i, q_j / q_i) over ids that both may choose."""
    total = 0.0
    for i in range(len(p)):
        if p[i] * q[i] > 0:
            total += 1.0 / torch.maximum(p / p[i], q / q[i]).sum().item()
    return total


@pytest.mark.parametrize("case", range(6))
def test_draft_and_target_agree_as_often_as_the_formula_says(case: int) -> None:
    generator = torch.Generator().manual_seed(case)
    p, q = (torch.randn(2, 5, generator=generator) * (0.5 + case / 2)).double().softmax(-1)
    if case == 5:
        p, q = p.clone(), q.clone()
        p[1], q[3] = 0.0, 0.0
        p, q = p / p.sum(), q / q.sum()
    num_seeds = 100_000
    # One seed's positions stand for many seeds: keys are mixed from both alike.
    noise = gumbel(31 + case, list(range(num_seeds)), 5, CPU).double()
    agrees = (p.log() + noise).argmax(-1) == (q.log() + noise).argmax(-1)
    rate, expected = agrees.double().mean().item(), expected_agreement(p, q)
    sigma = math.sqrt(expected * (1 - expected) / num_seeds)
    assert abs(rate - expected) < 3 * sigma, f"case {case}: {rate} for {expected}"
    distance = (p - q).abs().sum().item() / 2
    assert (1 - distance) / (1 + distance) - 1e-9 <= expected <= 1 - distance + 1e-9


def test_equal_distributions_always_agree() -> None:
    p = torch.tensor([0.1, 0.2, 0.7]).double()
    assert expected_agreement(p, p) == pytest.approx(1.0)
