"""Times of whole passes over the rows of many sessions: what batching brings on this machine.

    python -m bench.pass_rows MODEL [--threads N] [--dtype bfloat16] [--extents 2] [--json PATH]

One line per number of sessions and rows per session: milliseconds of a pass (layers, head and
choice), of its matrix products, its attention and the rest; billions of operations per second in
the products; choices per second (of a prefill: rows) against one session's single row. Contexts
of 64 to 512 positions.
Then prefill of one session, alone and beside eight that decode. Medians of interleaved runs; the
smallest times are in the JSON, too, for machines that others use at the same time.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from shared.model.attention import attend
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import Heads, LayerStack, load_stack
from shared.model.page_table import PageTable, num_pages_for
from shared.model.plain import PAGE_SIZE, pool_layout
from shared.model.rows import RowBatch, SessionRows, pack_rows
from shared.model.sampling import RowChoice, choose
from shared.model.segment import LocalSegment
from shared.speculation.vocabulary import Extent, SamplingParams

NUM_SESSIONS = (1, 2, 4, 8, 16, 32)
ROWS_PER_SESSION = (1, 5)
PREFILL_LENS = (16, 64, 128, 256, 512)
NUM_BESIDE = 8
MIN_CONTEXT_LEN, MAX_CONTEXT_LEN = 64, 512
NUM_WARM_UPS = 2
GREEDY = SamplingParams()


@dataclass(frozen=True)
class Load:
    """The sessions of a pass: rows that each brings, the context before them, and head rows."""

    name: str
    num_rows: tuple[int, ...]
    context_lens: tuple[int, ...]
    num_heads: int

    @property
    def total_rows(self) -> int:
        """R."""
        return sum(self.num_rows)


@dataclass(frozen=True)
class Timing:
    """Medians and minima of one load, in ms; the rest is the pass less products and attention."""

    name: str
    total_rows: int
    num_heads: int
    pass_ms: float
    linear_ms: float
    attention_ms: float
    rest_ms: float
    min_pass_ms: float
    linear_gflops: float


class LoadRunner:
    """Runs the parts of one load's pass on made-up rows, keys and values."""

    def __init__(self, stack: LayerStack, load: Load, num_extents: int) -> None:
        self.load = load
        self._stack = stack
        self._tables, num_pages = _scatter(load, num_extents)
        layout = pool_layout(stack, num_pages * PAGE_SIZE, PAGE_SIZE)
        self._pool = KVPool(LocalSegment(layout.size_bytes, stack.device), layout)
        for kv_2GSH in self._pool.layers:
            kv_2GSH.normal_()
        config = stack.config
        num_all_heads = config.num_heads + 2 * config.num_kv_heads
        heads = torch.randn(load.total_rows, num_all_heads, config.head_size).to(config.dtype)
        self._queries_RNH = heads[:, : config.num_heads]

    def run_pass(self) -> None:
        """Run layers, head and choice."""
        stack, load = self._stack, self.load
        rows = self._pack()
        x_RD = stack.run(stack.embed(rows), 0, stack.num_loaded, rows, self._pool.layers)
        choices = [RowChoice(GREEDY, position) for position in range(load.num_heads)]
        choose(stack.head(x_RD[-load.num_heads :]), choices)

    def run_linear(self) -> None:
        """Run the matrix products alone."""
        num_rows = self.load.total_rows
        for layer in self._stack.layers:
            for linear, num_in in layer.linears:
                linear(self._input(num_rows, num_in))
        config = self._stack.config
        self._stack.head(self._input(self.load.num_heads, config.hidden_size))

    def run_attention(self) -> None:
        """Run the attention of all layers alone."""
        spans = self._pack().spans
        windows = self._stack.config.windows
        for kv_2GSH, window in zip(self._pool.layers, windows, strict=True):
            attend(self._queries_RNH, kv_2GSH, spans, window)

    def _pack(self) -> RowBatch:
        load = self.load
        sessions = [
            SessionRows(table, [1] * num_rows, context_len)
            for table, num_rows, context_len in zip(
                self._tables, load.num_rows, load.context_lens, strict=True
            )
        ]
        return pack_rows(sessions, self._stack.rope_table_P1C)

    def _input(self, num_rows: int, num_in: int) -> torch.Tensor:
        return torch.ones(num_rows, num_in, dtype=self._stack.config.dtype)


def main() -> None:
    """Print the tables."""
    args = _parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    stack = load_stack(args.model, args.dtype, heads=Heads.TARGET)
    with torch.inference_mode():
        timings = measure(stack, decode_loads() + prefill_loads(), args.extents, args.runs)
    _print(timings)
    if args.json:
        report = {
            "model": args.model.name,
            "dtype": args.dtype,
            "threads": torch.get_num_threads(),
            "extents": args.extents,
            "timings": [asdict(timing) for timing in timings],
        }
        args.json.write_text(json.dumps(report, indent=1) + "\n")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="directory of a checkpoint")
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch takes")
    parser.add_argument("--extents", type=int, default=1, help="a session's pages lie in so many")
    parser.add_argument("--runs", type=int, default=9, help="timed runs of each part")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    return parser.parse_args()


def decode_loads() -> list[Load]:
    """Return the loads of sessions that all decode."""
    return [
        Load(
            f"{num_sessions} x {num_rows}",
            (num_rows,) * num_sessions,
            _context_lens(num_sessions),
            num_rows * num_sessions,
        )
        for num_rows in ROWS_PER_SESSION
        for num_sessions in NUM_SESSIONS
    ]


def prefill_loads() -> list[Load]:
    """Return the loads with a prompt, by itself and beside sessions that decode."""
    loads = []
    for num_rows in PREFILL_LENS:
        loads.append(Load(f"prefill {num_rows}", (num_rows,), (0,), 1))
        beside = (1,) * NUM_BESIDE
        context_lens = (0, *_context_lens(NUM_BESIDE))
        name = f"prefill {num_rows} + {NUM_BESIDE} x 1"
        loads.append(Load(name, (num_rows, *beside), context_lens, 1 + NUM_BESIDE))
    return loads


def _context_lens(num_sessions: int) -> tuple[int, ...]:
    """Spread contexts evenly; one session has the middle."""
    reach = MAX_CONTEXT_LEN - MIN_CONTEXT_LEN
    if num_sessions == 1:
        return (MIN_CONTEXT_LEN + reach // 2,)
    return tuple(MIN_CONTEXT_LEN + reach * i // (num_sessions - 1) for i in range(num_sessions))


def _scatter(load: Load, num_extents: int) -> tuple[list[PageTable], int]:
    """Return a page table per session, its pages in extents with a gap between, and all pages."""
    tables, next_page = [], 0
    for num_rows, context_len in zip(load.num_rows, load.context_lens, strict=True):
        left = num_pages_for(context_len + num_rows, PAGE_SIZE)
        extents = []
        for index in range(num_extents):
            num_pages = left // (num_extents - index)
            left -= num_pages
            if num_pages:
                extents.append(Extent(next_page, num_pages))
            next_page += num_pages + 1
        tables.append(PageTable(extents, PAGE_SIZE))
    return tables, next_page


def measure(
    stack: LayerStack, loads: Sequence[Load], num_extents: int, num_runs: int
) -> list[Timing]:
    """Time every part of every load, interleaved."""
    runners = [LoadRunner(stack, load, num_extents) for load in loads]
    parts = ("pass", "linear", "attention")
    samples: dict[tuple[str, str], list[float]] = {
        (load.name, part): [] for load in loads for part in parts
    }
    for run_index in range(NUM_WARM_UPS + num_runs):
        for runner in runners:
            runs = (runner.run_pass, runner.run_linear, runner.run_attention)
            for part, run in zip(parts, runs, strict=True):
                elapsed_ms = _time_ms(run)
                if run_index >= NUM_WARM_UPS:
                    samples[runner.load.name, part].append(elapsed_ms)
    return [_timing(stack, load, partial(_pick, samples, load.name)) for load in loads]


def _pick(samples: dict[tuple[str, str], list[float]], name: str, part: str) -> list[float]:
    return samples[name, part]


def _time_ms(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1e3


def _timing(stack: LayerStack, load: Load, samples_of: Callable[[str], list[float]]) -> Timing:
    pass_ms = statistics.median(samples_of("pass"))
    linear_ms = statistics.median(samples_of("linear"))
    attention_ms = statistics.median(samples_of("attention"))
    return Timing(
        name=load.name,
        total_rows=load.total_rows,
        num_heads=load.num_heads,
        pass_ms=pass_ms,
        linear_ms=linear_ms,
        attention_ms=attention_ms,
        rest_ms=pass_ms - linear_ms - attention_ms,
        min_pass_ms=min(samples_of("pass")),
        linear_gflops=_num_linear_flops(stack, load) / linear_ms / 1e6,
    )


def _num_linear_flops(stack: LayerStack, load: Load) -> int:
    config = stack.config
    num_qkv = (config.num_heads + 2 * config.num_kv_heads) * config.head_size
    num_out = config.num_heads * config.head_size
    per_layer = config.hidden_size * (num_qkv + num_out + 3 * config.intermediate_size)
    in_layers = load.total_rows * per_layer * stack.num_loaded
    return 2 * (in_layers + load.num_heads * config.hidden_size * config.vocab_size)


def _print(timings: Sequence[Timing]) -> None:
    columns = f"{'pass':>8} {'linear':>8} {'attend':>8} {'rest':>8} {'GFLOP/s':>8} {'choices/s':>9}"
    print(f"{'sessions x rows':>20} {columns} {'ratio':>6}   ms")
    first = timings[0]
    for timing in timings:
        rate = timing.num_heads / timing.pass_ms * 1e3
        ratio = rate / (first.num_heads / first.pass_ms * 1e3)
        if timing.name.startswith("prefill"):
            rate, ratio = timing.total_rows / timing.pass_ms * 1e3, 0.0
        print(
            f"{timing.name:>20} {timing.pass_ms:8.2f} {timing.linear_ms:8.2f} "
            f"{timing.attention_ms:8.2f} {timing.rest_ms:8.2f} {timing.linear_gflops:8.0f} "
            f"{rate:9.0f} {f'{ratio:.1f}' if ratio else '':>6}"
        )


if __name__ == "__main__":
    main()
