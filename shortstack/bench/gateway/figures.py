"""What turns say: how much later the gateway's answers come, and what it takes for that. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from shortstack.bench.gateway.callers import DIRECT, GRPC, HTTP, WAYS
from shortstack.bench.gateway.turns import Turn
from shortstack.bench.paired import Interval, judge_bound, paired_interval

# What the gateway may add, ms: to the first token; per message and in CPU time, with many sessions.
MAX_TTFT_MS, MAX_CHUNK_MS = 2.0, 0.3
ADDED = ("ttft", "delay")

Figures = dict[str, Any]


def figures_of(turns: Sequence[Turn]) -> list[Figures]:
    """Return figures for each number of clients."""
    return [
        _load([turn for turn in turns if turn.num_clients == num_clients])
        for num_clients in sorted({turn.num_clients for turn in turns})
    ]


def _load(turns: Sequence[Turn]) -> Figures:
    by_way = {way: _of(turns, way) for way in WAYS}
    direct = by_way[DIRECT]
    load: Figures = {"num_clients": turns[0].num_clients}
    for way, taken in by_way.items():
        num_chunks = sum(turn.num_chunks for turn in taken)
        load[way] = {
            "ttft_ms": median(turn.ttft_ms for turn in taken),
            "delay_ms": median(turn.delay_ms for turn in taken),
            "gateway_cpu_ms_per_chunk": 1e3 * sum(t.gateway_cpu_s for t in taken) / num_chunks,
            "gateway_cpu_share": sum(t.gateway_cpu_s for t in taken)
            / sum(t.elapsed_s for t in taken),
        }
        if way != DIRECT:
            load[way] |= {
                "added_ttft_ms": _added(taken, direct, lambda turn: turn.ttft_ms),
                "added_delay_ms": _added(taken, direct, lambda turn: turn.delay_ms),
            }
    return load


def _of(turns: Sequence[Turn], way: str) -> list[Turn]:
    return sorted((turn for turn in turns if turn.way == way), key=lambda turn: turn.repeat)


def _added(
    taken: Sequence[Turn], direct: Sequence[Turn], figure: Callable[[Turn], float]
) -> Figures:
    pairs = zip(taken, direct, strict=True)
    return asdict(paired_interval([figure(turn) - figure(other) for turn, other in pairs]))


def verdicts_of(loads: Sequence[Figures]) -> list[Figures]:
    """Hold the figures against what the gateway may add."""
    verdicts = []
    for way in (GRPC, HTTP):
        for load in loads:
            name = f"{way}, {load['num_clients']} clients"
            ttft, delay = load[way]["added_ttft_ms"], load[way]["added_delay_ms"]
            cpu_ms = load[way]["gateway_cpu_ms_per_chunk"]
            cpu = {"low": cpu_ms, "median": cpu_ms, "high": cpu_ms}
            verdicts += [
                _verdict(f"{name}: to first token", ttft, MAX_TTFT_MS),
                _verdict(f"{name}: delay per chunk", delay, MAX_CHUNK_MS),
                _verdict(f"{name}: CPU per chunk", cpu, MAX_CHUNK_MS),
            ]
    return verdicts


def _verdict(what: str, found: Mapping[str, float], bound: float) -> Figures:
    interval = Interval(found["low"], found["median"], found["high"])
    finding = judge_bound(interval, bound, bound)
    return {"what": what, "bound_ms": bound, "found_ms": asdict(interval), "finding": finding.value}


def table(loads: Sequence[Figures]) -> str:
    """Return a row per load and way."""
    lines = [
        "| clients | way | first token, ms | added, ms (95 %) | chunk delay, ms | added, ms (95 %) "
        "| gateway CPU per chunk, ms |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for load in loads:
        for way in WAYS:
            figures = load[way]
            is_direct = way == DIRECT
            added = ["-" if is_direct else _span(figures[f"added_{n}_ms"]) for n in ADDED]
            cpu = "-" if is_direct else f"{figures['gateway_cpu_ms_per_chunk']:.3f}"
            lines.append(
                f"| {load['num_clients']} | {way} | {figures['ttft_ms']:.2f} | {added[0]} "
                f"| {figures['delay_ms']:.2f} | {added[1]} | {cpu} |"
            )
    return "\n".join(lines)


def _span(found: Mapping[str, float]) -> str:
    return f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def verdict_table(verdicts: Sequence[Figures]) -> str:
    """Return a row per target."""
    lines = ["| added by the gateway, ms | target | found | |", "|---|---:|---:|---|"]
    lines += [
        f"| {each['what']} | <= {each['bound_ms']:g} | {_span(each['found_ms'])} "
        f"| {each['finding']} |"
        for each in verdicts
    ]
    return "\n".join(lines)
