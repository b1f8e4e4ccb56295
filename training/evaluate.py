"""How good every exit of a model is as a drafter, and how good its last layer is.

One teacher-forced pass over held-out rows. Knows nothing of drafting itself or of speed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.exits import HEAD_ROWS, exit_logits, exit_states, stack_of
from training.rows import IGNORED, Row

NOISE_SEED = 20240416


@dataclass(frozen=True)
class ExitScores:
    """Scores of exits 1 to L, in this order, over one text; the last layer's own beside them.

    Attributes:
        agreement: share of positions whose greedy token is that of exit L; the last one is 1.
        sampled_agreement: the same at temperature 1, both picks under one noise, as served.
        cross_entropy: mean, in nats per token.
        token_accuracy: share of positions where exit L's greedy token is the text's.
        exact_match: share of rows whose learnt tokens are all greedy choices of exit L: the task
            accuracy of greedy decoding, for rows with a prompt; None for running text.
        num_tokens: positions scored.
    """

    agreement: list[float]
    sampled_agreement: list[float]
    cross_entropy: list[float]
    token_accuracy: float
    exact_match: float | None
    num_tokens: int


@dataclass
class _Sums:
    """Running sums by exit [L], and of the last layer."""

    hits: Tensor
    sampled_hits: Tensor
    losses: Tensor
    num_right: int = 0
    num_exact: int = 0
    num_rows: int = 0
    num_tokens: int = 0


def batches_of(rows: Sequence[Row], num_rows: int = 8) -> Iterable[Row]:
    """Stack rows of one length into batches."""
    for first in range(0, len(rows), num_rows):
        group = rows[first : first + num_rows]
        yield {name: torch.stack([row[name] for row in group]) for name in group[0]}


@torch.no_grad()
def score_exits(
    model: nn.Module, rows: Sequence[Row], is_task: bool, num_layers: int | None = None
) -> ExitScores:
    """Score exits 1 to num_layers (all layers by default) over rows of one length."""
    depth = num_layers or len(stack_of(model).layers)
    device = next(model.parameters()).device
    sums = _Sums(*(torch.zeros(depth, dtype=torch.float64) for _ in range(3)))
    was_training = model.training
    model.eval()
    for batch in batches_of(rows):
        states = exit_states(model, batch["input_ids"].to(device), range(depth), depth)
        _add(sums, model, states, batch["labels"].to(device))
    model.train(was_training)
    return ExitScores(
        agreement=(sums.hits / sums.num_tokens).tolist(),
        sampled_agreement=(sums.sampled_hits / sums.num_tokens).tolist(),
        cross_entropy=(sums.losses / sums.num_tokens).tolist(),
        token_accuracy=sums.num_right / sums.num_tokens,
        exact_match=sums.num_exact / sums.num_rows if is_task else None,
        num_tokens=sums.num_tokens,
    )


def _add(sums: _Sums, model: nn.Module, states: dict[int, Tensor], labels_BT: Tensor) -> None:
    """Score a batch; logits of one exit and HEAD_ROWS rows live at a time."""
    learnt_R = labels_BT.flatten() != IGNORED
    labels_R = labels_BT.flatten()[learnt_R]
    wrong_R = torch.zeros_like(learnt_R)
    kept = [states[layer].flatten(0, 1)[learnt_R] for layer in range(len(states))]
    places = learnt_R.nonzero().flatten()
    for first in range(0, len(labels_R), HEAD_ROWS):
        rows = slice(first, first + HEAD_ROWS)
        last_choice = _add_rows(
            sums, model, [state[rows] for state in kept], labels_R[rows], first + sums.num_tokens
        )
        wrong_R[places[rows]] = last_choice != labels_R[rows]
    sums.num_tokens += len(labels_R)
    sums.num_right += len(labels_R) - int(wrong_R.sum())
    sums.num_rows += len(labels_BT)
    sums.num_exact += int((~wrong_R.view_as(labels_BT).any(dim=-1)).sum())


def _add_rows(
    sums: _Sums, model: nn.Module, states: Sequence[Tensor], labels_R: Tensor, first: int
) -> Tensor:
    """Add some rows of all exits, `first` having been scored; return the last's choices, [R]."""
    last_RV = exit_logits(model, states[-1])
    generator = torch.Generator(last_RV.device).manual_seed(NOISE_SEED + first)
    uniform_RV = torch.rand(last_RV.shape, generator=generator, device=last_RV.device)
    noise_RV = -torch.log(-torch.log(uniform_RV.clamp(1e-20, 1 - 1e-7)))
    last_choice, last_sample = last_RV.argmax(-1), (last_RV + noise_RV).argmax(-1)
    for layer, states_RD in enumerate(states):
        logits_RV = exit_logits(model, states_RD, layer)
        sums.hits[layer] += float((logits_RV.argmax(-1) == last_choice).sum())
        sums.sampled_hits[layer] += float(((logits_RV + noise_RV).argmax(-1) == last_sample).sum())
        sums.losses[layer] += float(F.cross_entropy(logits_RV, labels_R, reduction="sum"))
    return last_choice
