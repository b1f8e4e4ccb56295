"""Chances in the place of confidences: what a draft's choice is worth, told as it is drafted.

    logits -> the two best, their gap     `sampling`
    z, the two best, their gap -> chance  `acceptance_heads`, where the exit has one; else the gap's

Drafts and shadow reads are told of alike, so that evidence of an exit is what its drafts will say.
"""

from collections.abc import Sequence

import torch

from shared.model.layer_stack import LayerStack
from shared.model.sampling import Choices, RowChoice, choose


def choose_drafts(
    stack: LayerStack,
    z_RD: torch.Tensor,
    rows: Sequence[RowChoice],
    exit_layers: Sequence[int],
    *,
    with_both: bool = False,
) -> Choices:
    """Choose what to draft behind rows; the confidence of those that want it is their chance.

    Args:
        stack: the model.
        z_RD: what the head that drafts reads.
        rows: what choosing needs, row by row.
        exit_layers: by row, the exit that was read as it is; of other rows none wants a chance.
        with_both: tell all rows' chances beside their confidences, and replace none.
    """
    wanted = [row.wants_chance for row in rows]
    with_chances = with_both or any(wanted)
    choices = choose(
        stack.score_drafts(z_RD),
        rows,
        subset=stack.draft_subset,
        with_confidences=with_both or not all(wanted),
        with_gaps=with_chances,
    )
    if with_chances:
        # Scores at a temperature are logits divided by it; greedy ones were not.
        temperatures = [0.0 if row.params.is_greedy else row.params.temperature for row in rows]
        gaps = [gap * (t or 1.0) for gap, t in zip(choices.gaps, temperatures, strict=True)]
        choices.chances = stack.chances(z_RD, exit_layers, choices, gaps, temperatures)
    if all(wanted):
        choices.confidences = choices.chances
    elif with_chances and not with_both:
        told = zip(wanted, choices.chances, choices.confidences, strict=True)
        choices.confidences = [chance if is_wanted else own for is_wanted, chance, own in told]
    return choices
