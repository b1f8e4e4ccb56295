"""Messages between the bench and a child process that decodes with torch: one JSON line each.

bench -> child   Order, or CostsOrder
child -> bench   Ready once, then one Answer, or a cost table, per order
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from shared.speculation.cost_model import CostTable
from shared.speculation.draft_vocab import AUTO

GENERATE, COSTS = "generate", "costs"


@dataclass(frozen=True, slots=True)
class EarlyExit:
    """How transformers drafts with the model's own first layers."""

    exit_layer: int
    num_assistant_tokens: int
    schedule: str
    confidence_threshold: float

    def describe(self) -> str:
        """Return the setting in words, for reports."""
        return (
            f"assistant_early_exit={self.exit_layer}, "
            f"num_assistant_tokens={self.num_assistant_tokens} ({self.schedule}), "
            f"assistant_confidence_threshold={self.confidence_threshold}"
        )


@dataclass(frozen=True, slots=True)
class Order:
    """One prompt to continue greedily; with_gaps asks for the target's top-two gaps."""

    token_ids: tuple[int, ...]
    max_new_tokens: int
    eos_token_ids: tuple[int, ...]
    early_exit: EarlyExit | None = None
    with_gaps: bool = False


@dataclass(frozen=True, slots=True)
class CostsOrder:
    """Costs to measure, with what the settings of the workers give drafts."""

    exit_layers: tuple[int, ...]
    max_draft_len: int
    draft_vocab: str = AUTO
    exit_adapters: str = AUTO


@dataclass(frozen=True, slots=True)
class Answer:
    """A continuation and its times, as `samples.Sample` has them."""

    token_ids: tuple[int, ...]
    first_len: int
    first_ns: int
    decode_ns: int
    gaps: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded; `details` tells, for reports, what else was chosen."""

    num_threads: int
    environment: dict[str, str]
    details: str = ""


def encode_order(order: Order | CostsOrder) -> str:
    """Write an order as one line."""
    kind = GENERATE if isinstance(order, Order) else COSTS
    return json.dumps({"kind": kind} | asdict(order))


def decode_order(line: str) -> Order | CostsOrder:
    """Read an order."""
    fields: dict[str, Any] = json.loads(line)
    if fields.pop("kind") == COSTS:
        exit_layers = tuple(fields.pop("exit_layers"))
        return CostsOrder(exit_layers, **fields)
    early_exit = fields.pop("early_exit")
    return Order(
        tuple(fields["token_ids"]),
        fields["max_new_tokens"],
        tuple(fields["eos_token_ids"]),
        EarlyExit(**early_exit) if early_exit else None,
        fields["with_gaps"],
    )


def encode_answer(answer: Answer | Ready) -> str:
    """Write an answer as one line."""
    return json.dumps(asdict(answer))


def decode_answer(line: str) -> Answer:
    """Read an answer."""
    fields: dict[str, Any] = json.loads(line)
    token_ids, gaps = fields.pop("token_ids"), fields.pop("gaps")
    return Answer(tuple(token_ids), gaps=tuple(gaps), **fields)


def decode_ready(line: str) -> Ready:
    """Read the first message."""
    return Ready(**json.loads(line))


def encode_costs(costs: CostTable) -> str:
    """Write a cost table as one line; JSON has no keys but strings."""
    fields = {
        "draft_step_ns": list(costs.draft_step_ns.items()),
        "closing_step_ns": list(costs.closing_step_ns.items()),
        "verify_ns": list(costs.verify_ns.items()),
        "plain_step_ns": costs.plain_step_ns,
    }
    return json.dumps(fields)


def decode_costs(line: str) -> CostTable:
    """Read a cost table."""
    fields: dict[str, Any] = json.loads(line)
    return CostTable(
        draft_step_ns=dict(fields["draft_step_ns"]),
        closing_step_ns=dict(fields["closing_step_ns"]),
        verify_ns={(layer, rows): ns for (layer, rows), ns in fields["verify_ns"]},
        plain_step_ns=fields["plain_step_ns"],
    )
