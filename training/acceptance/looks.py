"""What exits choose at the positions of a batch, and whether the model chooses the same.

    score_v  = logit_v + T * noise_v      T 0: greedy; else a sample at temperature T
    a, b     the two best tokens of the exit by score;  gap = score_a - score_b, in units of logits
    agrees   a is the model's own best by its logits and the same noise

as drafting and verification have it, who share the noise of a position (see
`shared.model.sampling`). Shapes: B rows, T positions, R positions that count, V vocabulary.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from training.acceptance.head import HeadsOfModel, features_of
from training.exits import HEAD_ROWS
from training.rows import IGNORED
from training.sections import AcceptanceSection


@dataclass(frozen=True)
class Look:
    """One exit at R positions.

    Attributes:
        z_RD: what the output head read.
        pairs_R2: ids of a and b.
        gaps_R: of their scores, in units of logits.
        probabilities_R: softmax of the bare logits at a.
        agrees_R: whether the model chose a as well.
        temperatures_R: at which both chose; 0 is greedily.
    """

    z_RD: Tensor
    pairs_R2: Tensor
    gaps_R: Tensor
    probabilities_R: Tensor
    agrees_R: Tensor
    temperatures_R: Tensor

    def narrowed(self) -> "Look":
        """The same in less memory; gaps stay as they are."""
        return replace(self, z_RD=self.z_RD.half())

    def features(self, model: HeadsOfModel) -> Tensor:
        """What a head sees beside the gap, [R, F]."""
        a_RD, b_RD = (model.rows_of(ids_R) for ids_R in self.pairs_R2.unbind(-1))
        return features_of(self.z_RD.float(), a_RD, b_RD, self.temperatures_R)


class Looks:
    """Looks at the batches of a run, a pure function of their rows.

    keeps: batches come again, so that looks are worth keeping.
    """

    def __init__(self, model: HeadsOfModel, keeps: bool) -> None:
        self._model = model
        self._keeps = keeps
        self._kept: dict[bytes, Mapping[int, Look]] = {}

    def __call__(self, input_ids: Tensor, labels: Tensor) -> Mapping[int, Look]:
        """Looks by exit layer."""
        rows = torch.stack((input_ids, labels)).cpu().numpy()
        digest = hashlib.sha256(rows.tobytes()).digest()
        if digest in self._kept:
            return self._kept[digest]
        generator = torch.Generator(input_ids.device).manual_seed(int.from_bytes(digest[:7]))
        # A gap that was rounded tells less: whatever heads are trained in, exits are read in full.
        with torch.autocast(input_ids.device.type, enabled=False):
            looks = look(self._model, input_ids, labels, generator)
        if self._keeps:
            looks = {each: seen.narrowed() for each, seen in looks.items()}
            self._kept[digest] = looks
        return looks


@torch.no_grad()
def look(
    model: HeadsOfModel, input_ids: Tensor, labels: Tensor, generator: torch.Generator
) -> Mapping[int, Look]:
    """Look at every exit at the positions that count.

    Args:
        model: exits, and how tokens are chosen.
        input_ids: rows [B, T].
        labels: IGNORED where a position does not count.
        generator: draws temperatures and noise.

    Returns:
        Looks by exit layer; temperatures are those of the positions, the same at all exits.
    """
    states = model.base_states(input_ids)
    counts_R = (labels != IGNORED).flatten()
    kept = {each: state.flatten(0, 1)[counts_R] for each, state in states.items()}
    temperatures_R = _temperatures(model.section, counts_R, generator)
    chunks = [
        _look_at_chunk(
            model,
            {each: x_RD[first : first + HEAD_ROWS] for each, x_RD in kept.items()},
            temperatures_R[first : first + HEAD_ROWS],
            generator,
        )
        for first in range(0, len(temperatures_R), HEAD_ROWS)
    ]
    return {each: _joined([chunk[each] for chunk in chunks]) for each in model.exits}


def _temperatures(
    section: AcceptanceSection, counts_R: Tensor, generator: torch.Generator
) -> Tensor:
    """Temperatures of the positions that count; 0 is greedy."""
    num_rows, device = int(counts_R.sum()), counts_R.device
    draws = torch.rand(2, num_rows, device=device, generator=generator)
    span = section.max_temperature - section.min_temperature
    return (section.min_temperature + span * draws[0]) * (draws[1] >= section.greedy_share)


def _look_at_chunk(
    model: HeadsOfModel,
    states: Mapping[int, Tensor],
    temperatures_R: Tensor,
    generator: torch.Generator,
) -> dict[int, Look]:
    last = max(states)
    logits_RV = model.logits(model.read(states[last], last))
    uniform = torch.rand(logits_RV.shape, device=logits_RV.device, generator=generator)
    noise_RV = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
    noise_RV *= temperatures_R.unsqueeze(-1)
    choice_R = logits_RV.add_(noise_RV).argmax(-1)
    return {
        each: _look_at_exit(model, states[each], each, temperatures_R, noise_RV, choice_R)
        for each in model.exits
    }


def _look_at_exit(
    model: HeadsOfModel,
    x_RD: Tensor,
    exit_layer: int,
    temperatures_R: Tensor,
    noise_RV: Tensor,
    choice_R: Tensor,
) -> Look:
    z_RD = model.read(x_RD, exit_layer)
    logits_RV = model.logits(z_RD)
    top = (logits_RV + noise_RV).topk(2, -1)
    a_R1 = top.indices[:, :1]
    probabilities_R = F.softmax(logits_RV, -1).gather(-1, a_R1).squeeze(-1)
    gaps_R = top.values[:, 0] - top.values[:, 1]
    agrees_R = a_R1.squeeze(-1) == choice_R
    return Look(z_RD, top.indices, gaps_R, probabilities_R, agrees_R, temperatures_R)


def _joined(chunks: list[Look]) -> Look:
    names = [each.name for each in fields(Look)]
    return Look(*(torch.cat([getattr(chunk, name) for chunk in chunks]) for name in names))
