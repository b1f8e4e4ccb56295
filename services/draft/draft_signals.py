"""Where the draft worker's rows of the table of signals find their values."""

from services.draft.engine import DraftEngine
from services.draft.servicer import DraftServicer
from shared.model.layer_stack import LayerStack
from shared.telemetry.signal_board import SignalBoard
from shared.telemetry.signals.row import Service


def make_draft_board(
    model_name: str, stack: LayerStack, engine: DraftEngine, servicer: DraftServicer
) -> SignalBoard:
    """Return the board of a draft worker."""
    board = SignalBoard(Service.DRAFT, {"model_name": model_name})
    metrics = engine.metrics
    board.add(
        "shortstack_draft_",
        {
            "rounds_total": lambda: engine.num_rounds,
            "steps_total": lambda: engine.num_draft_steps,
            "rounds_refused_total": lambda: metrics.num_refused,
            "rounds_repeated_total": lambda: metrics.num_repeated,
            "batch_seconds": lambda: metrics.batch_s,
            "queue_seconds": lambda: metrics.queue_s,
            "batch_rounds": lambda: metrics.batch_rounds,
            "is_attached": lambda: servicer.is_attached,
            "loaded_layers": lambda: stack.num_loaded,
        },
    )
    board.add(
        "shortstack_",
        {
            "row_layers_total": lambda: stack.num_row_layers,
            "head_rows_total": lambda: stack.num_head_rows,
        },
    )
    return board
