"""Where the verify worker's rows of the table of signals find their values.

All that is read here was counted elsewhere; the scrape's thread reads it, one step of the
interpreter at a time, so nobody waits for it. Sums that belong together may differ by a round.
"""

from collections import Counter
from collections.abc import Mapping

from services.verify.cell import Cell
from services.verify.engine_metrics import NS_PER_US, EngineMetrics
from services.verify.pages import pool_state
from services.verify.round_counts import RoundKind
from services.verify.set_search import SetSearcher
from services.verify.store_traffic import StoreTraffic
from shared.control.skip_search.stream_record import Phase
from shared.telemetry.signal_board import SignalBoard, Source
from shared.telemetry.signals.row import Service


def make_cell_board(cell: Cell, refused: Counter[str]) -> SignalBoard:
    """Return the board of a cell that has been started.

    Args:
        cell: whose engine runs.
        refused: sessions refused, by the error's class.
    """
    cell_id = cell.settings.verify.cell_id
    constants = {
        "model_name": cell.rules.identity.model_name,
        "engine": cell_id,
        "cell": cell_id,
    }
    board = SignalBoard(Service.VERIFY, constants)
    metrics, traffic = cell.engine.steps.metrics, cell.store.traffic
    board.add("vllm:", _vllm_sources(cell, metrics))
    board.add("shortstack_", _round_sources(cell, metrics))
    board.add("shortstack_", _cell_sources(cell))
    board.add("shortstack_", {"requests_refused_total": refused.copy})
    board.add("shortstack_control_", _control_sources(cell, metrics))
    board.add("shortstack_control_", _search_sources(cell.engine.steps.search))
    board.add("shortstack_control_", _store_sources(traffic))
    board.add("shortstack_", {"controller_degraded": lambda: _is_degraded(cell)})
    return board


def _vllm_sources(cell: Cell, metrics: EngineMetrics) -> dict[str, Source]:
    roster, memory, rounds = cell.engine.roster, cell.memory, metrics.rounds
    return {
        "spec_decode_num_drafts_total": lambda: rounds.total(lambda kind: kind.num_drafted > 0),
        "spec_decode_num_draft_tokens_total": lambda: rounds.total(_drafted),
        "spec_decode_num_accepted_tokens_total": lambda: rounds.total(_accepted),
        "spec_decode_num_accepted_tokens_per_pos_total": rounds.accepted_by_position,
        "prompt_tokens_total": lambda: metrics.num_prompt_tokens,
        "generation_tokens_total": lambda: rounds.total(_emitted) + metrics.num_prompt_ends,
        "request_success_total": metrics.finished.copy,
        "num_preemptions_total": lambda: roster.num_preemptions,
        "prefix_cache_queries_total": lambda: memory.num_prefix_tokens_queried,
        "prefix_cache_hits_total": lambda: memory.num_prefix_tokens_hit,
        "num_requests_running": lambda: len(roster.running),
        "num_requests_waiting": lambda: roster.num_waiting,
        "kv_cache_usage_perc": lambda: _usage(cell),
        "time_to_first_token_seconds": lambda: metrics.first_token_s,
        "inter_token_latency_seconds": lambda: metrics.inter_token_s,
        "e2e_request_latency_seconds": lambda: metrics.session_s,
        "request_queue_time_seconds": lambda: metrics.queue_s,
        "request_prefill_time_seconds": lambda: metrics.prefill_s,
        "request_decode_time_seconds": lambda: metrics.decode_s,
        "request_prompt_tokens": lambda: metrics.prompt_lens,
        "request_generation_tokens": lambda: metrics.generation_lens,
    }


def _round_sources(cell: Cell, metrics: EngineMetrics) -> dict[str, Source]:
    rounds, in_flight = metrics.rounds, cell.engine.rounds
    return {
        "rounds_total": lambda: rounds.by(_method_exit_policy, lambda _: 1),
        "draft_tokens_total": lambda: rounds.by(_method_exit, _drafted),
        "accepted_tokens_total": lambda: rounds.by(_method_exit, _accepted),
        "emitted_tokens_total": lambda: _by_source(metrics),
        "speculation_shed_total": lambda: cell.engine.steps.num_shed_rounds,
        "late_responses_total": lambda: in_flight.num_late,
        "fenced_rounds_total": lambda: in_flight.num_fenced,
        "malformed_drafts_total": lambda: in_flight.num_malformed,
        "round_seconds": lambda: metrics.round_s,
        "draft_seconds": lambda: metrics.draft_s,
        "hand_over_seconds": lambda: metrics.hand_over_s,
        "verify_seconds": lambda: metrics.verify_s,
        "passes_total": lambda: cell.counters().num_passes,
        "pass_sessions": lambda: metrics.pass_sessions,
        "pass_rows": lambda: {"decode": metrics.decode_rows, "prefill": metrics.prefill_rows},
    }


def _cell_sources(cell: Cell) -> dict[str, Source]:
    engine, verify = cell.engine, cell.settings.verify
    return {
        "sessions": lambda: _sessions(cell),
        "max_sessions": lambda: verify.max_sessions,
        "cell_kind": lambda: {str(verify.cell_kind): 1.0},
        "is_draining": lambda: engine.roster.is_draining,
        "draft_workers": lambda: engine.rounds.num_draft_workers,
        "is_speculating": lambda: engine.rounds.has_draft_worker,
        "attachments_total": lambda: engine.rounds.num_attached,
        "transport": lambda: {cell.transport: 1.0},
        "kv_pages": lambda: _pages(cell),
        "quarantined_workers": lambda: len(cell.memory.quarantine.worker_ids),
        "row_layers_total": lambda: cell.stack.num_row_layers,
        "head_rows_total": lambda: cell.stack.num_head_rows,
    }


def _control_sources(cell: Cell, metrics: EngineMetrics) -> dict[str, Source]:
    governor, rounds = cell.engine.steps.governor, metrics.rounds
    return {
        "decisions_total": metrics.decisions.copy,
        "mode_switches_total": lambda: metrics.num_mode_switches,
        "arm_changes_total": lambda: metrics.num_arm_changes,
        "drafted_total": lambda: rounds.by(_policy_exit, _drafted),
        "accepted_total": lambda: rounds.by(_policy_exit, _accepted),
        "emitted_total": lambda: rounds.by(_policy_exit, _emitted),
        "places_reached_total": rounds.reached,
        "places_kept_total": rounds.kept,
        "decide_us": lambda: metrics.decide_us,
        "predicted_over_actual": lambda: {
            "drafting": metrics.drafting_forecast,
            "plain": metrics.plain_forecast,
        },
        "cost_us": lambda: _costs(governor.costs.to_cells()),
        "shadow_share": lambda: governor.sessions.book.shadow_share,
        "alarms_total": lambda: metrics.num_alarms,
        "guard_total": lambda: governor.sessions.num_guard_trips,
        "arbiter_off": lambda: governor.num_levels_off,
        "reads_evidence": lambda: _reads_evidence(cell),
    }


def _search_sources(search: SetSearcher | None) -> dict[str, Source]:
    """Return the sources of the search for skip sets; a cell without one tells zeros."""
    if search is None:
        return {
            "streams": lambda: {phase.value: 0.0 for phase in Phase},
            "looks_total": lambda: 0.0,
            "looks_us_total": lambda: 0.0,
        }
    return {
        "streams": search.book.num_by_phase,
        "looks_total": lambda: search.num_looks,
        "looks_us_total": lambda: search.num_looked_ns / NS_PER_US,
    }


def _store_sources(traffic: StoreTraffic | None) -> dict[str, Source]:
    """Return the sources of what Redis took; a cell without Redis tells zeros."""
    if traffic is None:
        names = ("redis_us_total", "redis_calls_total", "flush_total", "dropped_total")
        nothing: dict[str, Source] = dict.fromkeys(names, lambda: dict[str, float]())
        return {"redis_degraded": lambda: 0.0, **nothing}
    store, counters = traffic.store, traffic.store.counters
    return {
        "redis_degraded": lambda: store.is_degraded,
        "redis_us_total": counters.elapsed_us.copy,
        "redis_calls_total": lambda: {
            (operation, outcome.value): float(count)
            for (operation, outcome), count in counters.results.copy().items()
        },
        "flush_total": lambda: {
            outcome.value: float(count)
            for (operation, outcome), count in counters.results.copy().items()
            if operation == "flush"
        },
        "dropped_total": lambda: {
            "states": float(traffic.states.num_dropped),
            "counts": float(traffic.counts.num_dropped),
            "late counts": float(traffic.counts.num_given_up),
        },
    }


def _drafted(kind: RoundKind) -> int:
    return kind.num_drafted


def _accepted(kind: RoundKind) -> int:
    return kind.num_accepted


def _emitted(kind: RoundKind) -> int:
    return kind.num_emitted


def _method_exit(kind: RoundKind) -> tuple[str, str]:
    return kind.method, str(kind.exit_layer)


def _policy_exit(kind: RoundKind) -> tuple[str, str]:
    return kind.policy, str(kind.exit_layer)


def _method_exit_policy(kind: RoundKind) -> tuple[str, ...]:
    return kind.method, str(kind.exit_layer), kind.policy


def _by_source(metrics: EngineMetrics) -> dict[str, float]:
    sums = metrics.rounds.by_source()
    sums["plain"] += metrics.num_prompt_ends
    return sums


def _usage(cell: Cell) -> float:
    state = pool_state(cell.memory)
    return 1.0 - (state["num_free"] + state["num_cached"]) / state["num_pages"]


def _pages(cell: Cell) -> dict[str, float]:
    state = pool_state(cell.memory)
    pages = {name: float(state[f"num_{name}"]) for name in ("free", "used", "cached")}
    pages["quarantined"] = float(state["num_quarantined"])
    pages["shared"] = float(cell.memory.allocator.num_shared)
    return pages


def _sessions(cell: Cell) -> dict[str, float]:
    states = Counter(dict.fromkeys(("waiting", "prefill", "decode", "paused"), 0))
    max_unread = cell.settings.verify.max_unread
    states["waiting"] = cell.engine.roster.num_waiting
    for session in cell.engine.roster.running.copy():
        is_paused = session.is_decoding and session.num_unread() >= max_unread
        states["paused" if is_paused else "decode" if session.is_decoding else "prefill"] += 1
    return {state: float(count) for state, count in states.items()}


def _costs(cells: Mapping[str, tuple[float, float]]) -> dict[tuple[str, ...], float]:
    """Return the costs of steps in us; fields are those of `StepCosts.to_cells`."""
    costs: dict[tuple[str, ...], float] = {}
    for field, (ns, _) in cells.items():
        kind, exit_layer, rows, _ = field.split(":")
        phase = "draft" if kind == "d" else "verify"
        costs[phase, exit_layer, rows] = ns / NS_PER_US
    return costs


def _reads_evidence(cell: Cell) -> bool:
    rounds = cell.engine.rounds
    return not rounds.num_draft_workers or rounds.reads_alike


def _is_degraded(cell: Cell) -> bool:
    traffic = cell.store.traffic
    return (traffic is not None and traffic.store.is_degraded) or not _reads_evidence(cell)
