"""Where the gateway's rows of the table of signals find their values."""

from collections import Counter

from services.gateway.admission import Admission
from services.gateway.cells import CellSource
from services.gateway.request_metrics import RequestMetrics
from services.gateway.router import Router
from shared.telemetry.signal_board import SignalBoard
from shared.telemetry.signals.row import Service

PROVIDER = "shortstack"


def make_gateway_board(
    model_name: str,
    metrics: RequestMetrics,
    admission: Admission,
    cells: CellSource,
    router: Router,
) -> SignalBoard:
    """Return the board of a gateway."""
    constants = {
        "model_name": model_name,
        "gen_ai_provider_name": PROVIDER,
        "gen_ai_request_model": model_name,
    }
    board = SignalBoard(Service.GATEWAY, constants)
    board.add(
        "shortstack_gateway_",
        {
            "requests_total": metrics.requests.copy,
            "requests_running": lambda: admission.num_running,
            "requests_waiting": lambda: admission.num_waiting,
            "max_running": lambda: admission.max_running,
            "tokens_total": metrics.tokens.copy,
            "queue_seconds": lambda: metrics.queue_s,
            "cells": lambda: _cells_by_state(cells, router),
        },
    )
    board.add(
        "shortstack_",
        {
            "requests_refused_total": metrics.refused.copy,
            "replays_total": metrics.replays.copy,
        },
    )
    board.add(
        "gen_ai_server_",
        {
            "request_duration_seconds": metrics.duration_s.copy,
            "time_to_first_token_seconds": lambda: metrics.first_token_s,
            "time_per_output_token_seconds": lambda: metrics.per_token_s,
        },
    )
    return board


def _cells_by_state(cells: CellSource, router: Router) -> dict[str, float]:
    states = Counter(dict.fromkeys(("ready", "draining", "failing"), 0))
    for cell in cells.cells:
        if cell.is_draining:
            states["draining"] += 1
        else:
            states["failing" if router.is_failing(cell) else "ready"] += 1
    return {state: float(count) for state, count in states.items()}
