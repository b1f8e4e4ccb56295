"""How well adapters draft on held-out rows, and the raw exits at the same layers beside them.

    agreement            the draft's greedy token is the model's
    agreement_of_2, _3   the model's greedy token is among the draft's 2 or 3 best
    sampled_agreement    the same token at temperature 1, both under one noise, as served
    expected_agreement   what the last is in the mean, from p and q alone: A(p, q) below
    overlap              sum_v min(p, q)
    cross_entropy        - sum_v p log q, in nats

    A(p, q) = sum_i 1 / sum_j max(p_j / p_i, q_j / q_i)     Gumbel noise shared by both choices

Knows nothing of drafting itself or of speed. Shapes: R rows, D hidden, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from training.evaluate import NOISE_SEED, batches_of
from training.exits import HEAD_ROWS, exit_logits, head_of, stack_of
from training.kangaroo.adapter import AdaptersOfModel
from training.kangaroo.loss import soft_cross_entropy
from training.rows import IGNORED, Row


@dataclass(frozen=True)
class DraftScores:
    """Scores of one way to draft over one text: means over its positions. See the module."""

    agreement: float
    agreement_of_2: float
    agreement_of_3: float
    sampled_agreement: float
    expected_agreement: float
    overlap: float
    cross_entropy: float


NUM_SCORES = len(fields(DraftScores))


@dataclass(frozen=True)
class AdapterScores:
    """One text: adapters and raw exits by exit layer."""

    adapters: Mapping[int, DraftScores]
    raw: Mapping[int, DraftScores]
    num_tokens: int


def expected_agreement(p_RV: Tensor, q_RV: Tensor) -> Tensor:
    """A(p, q) [R]; ids that either gives no chance to add nothing.

    max(p_j/p_i, q_j/q_i) is the first where p_j/q_j is at least p_i/q_i, else the second: so with
    ids sorted by p/q, the inner sum is one of p from i on and one of q before it.
    """
    tiny = torch.finfo(torch.float64).tiny
    p, q = p_RV.double(), q_RV.double()
    order = (p.clamp_min(tiny).log() - q.clamp_min(tiny).log()).argsort(-1)
    p, q = p.gather(-1, order), q.gather(-1, order)
    p_from = p.flip(-1).cumsum(-1).flip(-1)
    q_before = q.cumsum(-1) - q
    both = (p > 0) & (q > 0)
    inner = p_from / p.clamp_min(tiny) + q_before / q.clamp_min(tiny)
    return (both / inner).sum(-1)


@torch.no_grad()
def score_adapters(model: AdaptersOfModel, rows: Sequence[Row]) -> AdapterScores:
    """Score every adapter and its raw exit over rows of one length."""
    device = next(model.parameters()).device
    sums = {each: torch.zeros(2, NUM_SCORES, dtype=torch.float64) for each in model.exits}
    num_tokens = 0
    for batch in batches_of(rows):
        states = model.base_states(batch["input_ids"].to(device))
        counts_R = (batch["labels"].to(device) != IGNORED).flatten()
        z_by_exit = {each: z.flatten(0, 1)[counts_R] for each, z in model.read(states).items()}
        kept = {each: state.flatten(0, 1)[counts_R] for each, state in states.items()}
        for first in range(0, int(counts_R.sum()), HEAD_ROWS):
            own = slice(first, first + HEAD_ROWS)
            target = _Target(exit_logits(model.base, kept[max(kept)][own]), num_tokens + first)
            for each, added in sums.items():
                norm, head = stack_of(model.base).norm, head_of(model.base)
                added[0] += target.sums_of(head(z_by_exit[each][own]).float())
                added[1] += target.sums_of(head(norm(kept[each][own])).float())
        num_tokens += int(counts_R.sum())
    means = {each: (added / num_tokens).tolist() for each, added in sums.items()}
    return AdapterScores(
        {each: DraftScores(*both[0]) for each, both in means.items()},
        {each: DraftScores(*both[1]) for each, both in means.items()},
        num_tokens,
    )


class _Target:
    """What the model says on some rows, `first` having been scored."""

    def __init__(self, logits_RV: Tensor, first: int) -> None:
        generator = torch.Generator(logits_RV.device).manual_seed(NOISE_SEED + first)
        uniform = torch.rand(logits_RV.shape, generator=generator, device=logits_RV.device)
        self._noise_RV = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        self._p_RV = F.softmax(logits_RV, -1)
        self._choice_R1 = logits_RV.argmax(-1, keepdim=True)
        self._sample_R = (logits_RV + self._noise_RV).argmax(-1)

    def sums_of(self, logits_RV: Tensor) -> Tensor:
        """The scores of a draft's logits, summed over the rows, in the order of their fields."""
        q_RV = F.softmax(logits_RV, -1)
        rank_R = (logits_RV > logits_RV.gather(-1, self._choice_R1)).sum(-1)
        sample_R = (logits_RV + self._noise_RV).argmax(-1)
        found = (
            logits_RV.argmax(-1) == self._choice_R1.squeeze(-1),
            rank_R < 2,
            rank_R < 3,
            sample_R == self._sample_R,
            expected_agreement(self._p_RV, q_RV),
            torch.minimum(self._p_RV, q_RV).sum(-1),
            soft_cross_entropy(self._p_RV, logits_RV),
        )
        return torch.stack([each.double().sum() for each in found]).cpu()
