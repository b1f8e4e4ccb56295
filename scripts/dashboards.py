"""Writes Grafana's dashboards, deploy/grafana/dashboards/*.json, or checks that they are fresh.

python scripts/dashboards.py           write
python scripts/dashboards.py --check   exit status 1 if a file is stale

Longer than other files, as it is a table. A panel is a title, a unit and a few expressions, each
with a legend; their place follows from their order. Names and labels are checked against the table
of signals by tests/unit/watching.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "dashboards"
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
NUM_COLUMNS = 24
PANEL_HEIGHT = 8
RATE = "[$__rate_interval]"
# Chosen at the top of each dashboard, from what the signals have.
MODEL = 'model_name=~"$model_name"'
CELL = 'cell=~"$cell"'


@dataclass(frozen=True)
class Panel:
    """A graph: expressions by legend. unit as Grafana names it; `about` is its tooltip."""

    title: str
    unit: str
    queries: dict[str, str]
    about: str = ""
    width: int = 8


@dataclass(frozen=True)
class Dashboard:
    """Rows of panels by their titles, and the variables to choose by: name and signal."""

    name: str
    title: str
    variables: dict[str, str]
    rows: dict[str, tuple[Panel, ...]]


def quantiles(name: str, labels: str) -> dict[str, str]:
    """Return the expressions of a histogram's middle and upper quantiles."""
    buckets = f"sum by (le) (rate({name}_bucket{{{labels}}}{RATE}))"
    return {f"p{q}": f"histogram_quantile(0.{q}, {buckets})" for q in (50, 95, 99)}


def mean(name: str, labels: str, by: str) -> str:
    """Return the expression of a histogram's mean."""
    total, count = (f"sum by ({by}) (rate({name}_{part}{{{labels}}}{RATE}))" for part in
                    ("sum", "count"))  # fmt: skip
    return f"{total} / {count}"


def rate(name: str, labels: str, by: str) -> str:
    """Return the expression of a counter's speed."""
    return f"sum by ({by}) (rate({name}{{{labels}}}{RATE}))"


SERVING = Dashboard(
    "serving",
    "Shortstack: serving",
    {"model_name": "vllm:num_requests_running"},
    {
        "Cells, under vLLM's names": (
            Panel("End-to-end latency", "s",
                  quantiles("vllm:e2e_request_latency_seconds", MODEL)),
            Panel("Time to first token", "s",
                  quantiles("vllm:time_to_first_token_seconds", MODEL)),
            Panel("Time between rounds", "s",
                  quantiles("vllm:inter_token_latency_seconds", MODEL),
                  "One value per round, which emits several tokens where drafts are kept."),
            Panel("Tokens per second", "short", {
                "prompt": rate("vllm:prompt_tokens_total", MODEL, "model_name"),
                "generated": rate("vllm:generation_tokens_total", MODEL, "model_name")}),
            Panel("Sessions", "short", {
                "running": f"sum(vllm:num_requests_running{{{MODEL}}})",
                "waiting": f"sum(vllm:num_requests_waiting{{{MODEL}}})"}),
            Panel("Pages in use", "percentunit", {
                "{{engine}}": f"vllm:kv_cache_usage_perc{{{MODEL}}}"}),
            Panel("Queue, prefill and decode time, mean", "s", {
                part: mean(f"vllm:request_{part}_time_seconds", MODEL, "model_name")
                for part in ("queue", "prefill", "decode")}),
            Panel("Ended sessions per second", "short", {
                "{{finished_reason}}":
                    rate("vllm:request_success_total", MODEL, "finished_reason")}),
            Panel("Lengths, mean", "short", {
                part: mean(f"vllm:request_{part}_tokens", MODEL, "model_name")
                for part in ("prompt", "generation")}),
            Panel("Prefix cache hits", "percentunit", {
                "hits": f"sum(rate(vllm:prefix_cache_hits_total{{{MODEL}}}{RATE})) / "
                        f"sum(rate(vllm:prefix_cache_queries_total{{{MODEL}}}{RATE}))"}),
            Panel("Preemptions per second", "short", {
                "{{engine}}": rate("vllm:num_preemptions_total", MODEL, "engine")}),
        ),
        "Requests, as clients see them": (
            Panel("Time to first token", "s",
                  quantiles("gen_ai_server_time_to_first_token_seconds", "")),
            Panel("Time per token behind the first", "s",
                  quantiles("gen_ai_server_time_per_output_token_seconds", "")),
            Panel("Duration", "s", quantiles("gen_ai_server_request_duration_seconds", "")),
            Panel("Requests per second", "short", {
                "{{status}} {{finish_reason}}":
                    rate("shortstack_gateway_requests_total", "", "status, finish_reason")}),
            Panel("Places", "short", {
                "running": "sum(shortstack_gateway_requests_running)",
                "waiting": "sum(shortstack_gateway_requests_waiting)",
                "places": "sum(shortstack_gateway_max_running)"}),
            Panel("Wait for a place", "s", quantiles("shortstack_gateway_queue_seconds", "")),
            Panel("Refused per second", "short", {
                "{{service}}: {{reason}}":
                    rate("shortstack_requests_refused_total", "", "service, reason")}),
            Panel("Replays per second", "short", {
                "{{outcome}}": rate("shortstack_replays_total", "", "outcome")}),
            Panel("Tokens per second", "short", {
                "{{kind}}": rate("shortstack_gateway_tokens_total", "", "kind")}),
        ),
    },
)  # fmt: skip

SPECULATION = Dashboard(
    "speculation",
    "Shortstack: speculation and control",
    {"cell": "shortstack_draft_workers"},
    {
        "Speculation": (
            Panel("Acceptance rate by method and exit layer", "percentunit", {
                "{{method}} E {{exit_layer}}":
                    rate("shortstack_accepted_tokens_total", f'{CELL}, method!="off"',
                         "method, exit_layer") + " / " +
                    rate("shortstack_draft_tokens_total", f'{CELL}, method!="off"',
                         "method, exit_layer")},
                "Of a tree at most one path is kept, so its share is low by nature."),
            Panel("Mean emitted length of rounds with a draft", "short", {
                "all": "1 + sum(rate(vllm:spec_decode_num_accepted_tokens_total"
                       f"{RATE})) / sum(rate(vllm:spec_decode_num_drafts_total{RATE}))"}),
            Panel("Chance of a draft at its place", "percentunit", {
                "place {{place}}": rate("shortstack_control_places_kept_total", CELL, "place") +
                    " / " + rate("shortstack_control_places_reached_total", CELL, "place")}),
            Panel("Rounds per second", "short", {
                "{{method}} E {{exit_layer}} {{policy}}":
                    rate("shortstack_rounds_total", CELL, "method, exit_layer, policy")}),
            Panel("Tokens per second by source", "short", {
                "{{source}}": rate("shortstack_emitted_tokens_total", CELL, "source")}),
            Panel("Accepted per position, per second", "short", {
                "{{position}}": "sum by (position) (rate("
                    f"vllm:spec_decode_num_accepted_tokens_per_pos_total{RATE}))"}),
            Panel("A round's time, mean", "s", {
                part: mean(f"shortstack_{part}_seconds", CELL, "cell")
                for part in ("round", "draft", "hand_over", "verify")}),
            Panel("Draft workers", "short", {
                "{{cell}} attached": f"shortstack_draft_workers{{{CELL}}}",
                "{{cell}} drafting": f"shortstack_is_speculating{{{CELL}}}"}),
            Panel("Late, fenced and malformed rounds per second", "short", {
                part: rate(f"shortstack_{part}_total", CELL, "cell")
                for part in ("late_responses", "fenced_rounds", "malformed_drafts")}),
        ),
        "Control": (
            Panel("Decisions per second by reason", "short", {
                "{{reason}}": rate("shortstack_control_decisions_total", CELL, "reason")}),
            Panel("Changes per second", "short", {
                "on or off": rate("shortstack_control_mode_switches_total", CELL, "cell"),
                "arm": rate("shortstack_control_arm_changes_total", CELL, "cell"),
                "alarm": rate("shortstack_control_alarms_total", CELL, "cell"),
                "guard": rate("shortstack_control_guard_total", CELL, "cell"),
                "shed": rate("shortstack_speculation_shed_total", CELL, "cell")}),
            Panel("Time to decide", "µs", quantiles("shortstack_control_decide_us", CELL)),
            Panel("Predicted over delivered speed, mean", "short", {
                "{{mode}}": mean("shortstack_control_predicted_over_actual", CELL, "mode")},
                "1: the plan delivers what it promised."),
            Panel("What steps take", "µs", {
                "{{phase}} E {{exit_layer}}, {{rows}} rows":
                    f"shortstack_control_cost_us{{{CELL}}}"}),
            Panel("Time spent on evidence", "percentunit", {
                "{{cell}}": f"shortstack_control_shadow_share{{{CELL}}}"}),
            Panel("Levels of load where plain is faster", "short", {
                "{{cell}}": f"shortstack_control_arbiter_off{{{CELL}}}"}),
            Panel("Degraded", "short", {
                "{{cell}} controller": f"shortstack_controller_degraded{{{CELL}}}",
                "{{cell}} Redis": f"shortstack_control_redis_degraded{{{CELL}}}",
                "{{cell}} reads evidence": f"shortstack_control_reads_evidence{{{CELL}}}"}),
            Panel("Tokens per second by policy", "short", {
                "{{policy}} drafted": rate("shortstack_control_drafted_total", CELL, "policy"),
                "{{policy}} accepted": rate("shortstack_control_accepted_total", CELL, "policy"),
                "{{policy}} emitted": rate("shortstack_control_emitted_total", CELL, "policy")}),
        ),
        "Search for skip sets": (
            Panel("Task streams by phase", "short", {
                "{{cell}} {{phase}}": f"shortstack_control_streams{{{CELL}}}"},
                "off: no set was found with which drafts pay."),
            Panel("Looks per second", "short", {
                "{{cell}}": rate("shortstack_control_looks_total", CELL, "cell")}),
            Panel("Share of the time that looks take", "percentunit", {
                "{{cell}}": rate("shortstack_control_looks_us_total", CELL, "cell") + " / 1e6"},
                "At most SHORTSTACK_SWIFT__SEARCH_SHARE of the steps' time."),
        ),
        "Redis": (
            Panel("Calls per second", "short", {
                "{{script}} {{result}}":
                    rate("shortstack_control_redis_calls_total", CELL, "script, result")}),
            Panel("Time of a call, mean", "µs", {
                "{{script}}": rate("shortstack_control_redis_us_total", CELL, "script") + " / " +
                    rate("shortstack_control_redis_calls_total", CELL, "script")}),
            Panel("States flushed and dropped per second", "short", {
                "{{result}}": rate("shortstack_control_flush_total", CELL, "result"),
                "dropped {{item}}": rate("shortstack_control_dropped_total", CELL, "item")}),
        ),
    },
)  # fmt: skip

CELLS = Dashboard(
    "cells",
    "Shortstack: cells and memory",
    {"cell": "shortstack_draft_workers"},
    {
        "Cells": (
            Panel("Cells, as gateways see them", "short", {
                "{{instance}} {{state}}": "shortstack_gateway_cells"}),
            Panel("Sessions by state", "short", {
                "{{cell}} {{state}}": f"shortstack_sessions{{{CELL}}}"}),
            Panel("Sessions by room for them", "percentunit", {
                "{{cell}}": f'sum by (cell) (shortstack_sessions{{{CELL}, state!="waiting"}}) / '
                            f"sum by (cell) (shortstack_max_sessions{{{CELL}}})"}),
            Panel("Draining", "short", {"{{cell}}": f"shortstack_is_draining{{{CELL}}}"}),
            Panel("Draft workers attached per hour", "short", {
                "{{cell}}": f"increase(shortstack_attachments_total{{{CELL}}}[1h])"}),
            Panel("How cells are built", "short", {
                "{{cell}} {{kind}}": f"shortstack_cell_kind{{{CELL}}}",
                "{{cell}} over {{kind}}": f"shortstack_transport{{{CELL}}}",
                "{{service}} {{version}} {{model_name}}":
                    "count by (service, version, model_name) (shortstack_build_info)"}),
        ),
        "Memory": (
            Panel("Pages by state", "short", {
                "{{state}}": f"sum by (state) (shortstack_kv_pages{{{CELL}}})"}, width=16),
            Panel("Quarantine", "short", {
                "{{cell}} pages": f'shortstack_kv_pages{{{CELL}, state="quarantined"}}',
                "{{cell}} workers": f"shortstack_quarantined_workers{{{CELL}}}"}),
        ),
        "Passes and drafts": (
            Panel("Passes per second", "short", {
                "{{cell}}": rate("shortstack_passes_total", CELL, "cell")}),
            Panel("Rows of a pass, mean", "short", {
                "{{phase}}": mean("shortstack_pass_rows", CELL, "phase")}),
            Panel("Sessions of a pass, mean", "short", {
                "{{cell}}": mean("shortstack_pass_sessions", CELL, "cell")}),
            Panel("A draft worker's batch, mean", "s", {
                "drafting {{instance}}": mean("shortstack_draft_batch_seconds", "", "instance"),
                "waiting {{instance}}": mean("shortstack_draft_queue_seconds", "", "instance")}),
            Panel("Rounds of a draft batch, mean", "short", {
                "{{instance}}": mean("shortstack_draft_batch_rounds", "", "instance")}),
            Panel("Draft rounds and steps per second", "short", {
                "rounds {{instance}}": rate("shortstack_draft_rounds_total", "", "instance"),
                "steps {{instance}}": rate("shortstack_draft_steps_total", "", "instance"),
                "refused {{instance}}":
                    rate("shortstack_draft_rounds_refused_total", "", "instance"),
                "repeated {{instance}}":
                    rate("shortstack_draft_rounds_repeated_total", "", "instance")}),
            Panel("Draft workers", "short", {
                "{{instance}} attached": "shortstack_draft_is_attached",
                "{{instance}} layers": "shortstack_draft_loaded_layers"}),
            Panel("Rows through layers and heads per second", "short", {
                "layers {{job}}": rate("shortstack_row_layers_total", "", "job"),
                "heads {{job}}": rate("shortstack_head_rows_total", "", "job")}),
        ),
        "Processes": (
            Panel("CPUs in use", "short", {
                "{{job}} {{instance}}":
                    f'rate(process_cpu_seconds_total{{job=~"shortstack-.*"}}{RATE})'}),
            Panel("Memory resident", "bytes", {
                "{{job}} {{instance}}":
                    'process_resident_memory_bytes{job=~"shortstack-.*"}'}),
            Panel("Open files", "percentunit", {
                "{{job}} {{instance}}":
                    'process_open_fds{job=~"shortstack-.*"} / '
                    'process_max_fds{job=~"shortstack-.*"}'}),
        ),
    },
)  # fmt: skip

DASHBOARDS = (SERVING, SPECULATION, CELLS)


def to_json(dashboard: Dashboard) -> str:
    """Return a dashboard as Grafana reads it."""
    model = {
        "uid": f"shortstack-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["shortstack"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [variable(*each) for each in dashboard.variables.items()]},
        "panels": list(panels(dashboard)),
    }
    return json.dumps(model, indent=1, ensure_ascii=False) + "\n"


def variable(label: str, signal: str) -> dict[str, Any]:
    """Return a variable: the values of a label, all of them at first."""
    query = f"label_values({signal}, {label})"
    return {
        "name": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": label},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "current": {"text": "All", "value": "$__all"},
    }


def panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    """Iterate over rows and panels, each in its place."""
    y, panel_id = 0, 0
    for title, row in dashboard.rows.items():
        panel_id += 1
        place = {"x": 0, "y": y, "w": NUM_COLUMNS, "h": 1}
        yield {"id": panel_id, "type": "row", "title": title, "gridPos": place, "panels": []}
        y += 1
        x = 0
        for each in row:
            if x + each.width > NUM_COLUMNS:
                x, y = 0, y + PANEL_HEIGHT
            panel_id += 1
            yield graph(each, panel_id, x, y)
            x += each.width
        y += PANEL_HEIGHT


def graph(panel: Panel, panel_id: int, x: int, y: int) -> dict[str, Any]:
    """Return a graph."""
    return {
        "id": panel_id,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": PANEL_HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}},
        "targets": targets(list(panel.queries.items())),
    }


def targets(queries: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return a graph's queries; those of buckets bring the exemplars."""
    return [
        {
            "refId": chr(ord("A") + index),
            "expr": expression.replace("{}", ""),
            "legendFormat": legend,
            "exemplar": "_bucket" in expression,
            "datasource": DATASOURCE,
        }
        for index, (legend, expression) in enumerate(queries)
    ]


def main(arguments: list[str]) -> int:
    """Write or check the files."""
    stale = []
    for dashboard in DASHBOARDS:
        path, text = FOLDER / f"{dashboard.name}.json", to_json(dashboard)
        if arguments != ["--check"]:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
    if stale:
        print(f"stale: {', '.join(stale)}; run python scripts/dashboards.py", file=sys.stderr)
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
