"""How many prompt rows ride along in the next pass, so that running sessions keep their pace. Pure.

decoding    prompt rows
none        the whole chunk
some        as many as stretch the step to at most `max_stretch` times what it takes without,
            by measured costs; never under `min_rows`, so that every prompt goes on
some, costs not known yet: `blind_rows`
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.control.step_costs import StepCosts
from shared.control.steps import draft_shape
from shared.speculation.vocabulary import Decision


@dataclass(frozen=True, slots=True)
class RowBudget:
    """How far prompts may stretch a step.

    max_stretch: most that a step may take, over what it would take without prompt rows.
    min_rows: rows that a prompt gets in any case; blind_rows: while costs are not known.

    Raises:
        ValueError: a step may not stretch at all, or prompts could come to a stop.
    """

    max_stretch: float = 2.0
    min_rows: int = 16
    blind_rows: int = 64

    def __post_init__(self) -> None:
        if self.max_stretch < 1.0:
            raise ValueError(f"max_stretch must be at least 1, not {self.max_stretch}")
        if self.min_rows < 1 or self.blind_rows < 1:
            raise ValueError(
                f"min_rows and blind_rows must be at least 1, not {self.min_rows}, "
                f"{self.blind_rows}"
            )

    def num_rows(self, costs: StepCosts, decisions: Sequence[Decision], chunk_len: int) -> int:
        """Return how many prompt rows the next pass takes at most; in [1, chunk_len].

        Drafts are taken to be as long as their decisions allow, resuming at their exit layers.

        Args:
            costs: measured costs of this process.
            decisions: of the sessions that decode in the step.
            chunk_len: most prompt rows of a pass, at least 1.
        """
        if not decisions:
            return chunk_len
        rows: dict[int, float] = {}
        for each in decisions:
            layer, num_rows = (0, 1) if each.is_off else (each.exit_layer, each.max_nodes + 1)
            rows[layer] = rows.get(layer, 0.0) + num_rows
        pass_ns = costs.pass_ns(rows)
        if pass_ns is None:
            return min(self.blind_rows, chunk_len)
        draft_lens = [0 if each.is_off else each.max_draft_len for each in decisions]
        draft_ns = costs.draft_ns(max(rows), *draft_shape(draft_lens)) or 0.0
        budget_ns = self.max_stretch * (draft_ns + pass_ns) - draft_ns
        found = costs.rows_within(rows, budget_ns, chunk_len)
        return min(chunk_len, max(self.min_rows, found))
