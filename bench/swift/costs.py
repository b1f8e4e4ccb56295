"""What steps of a model take: one row of all layers, one less a skip set, a verify pass."""

import time
from statistics import median

import torch

from bench.swift.rounds import DRAFT_LEN
from bench.swift.texts import WINDOW_LEN, Bench, table_of
from shared.model.rows import SessionRows, pack_rows
from shared.speculation.skip_set import SkipSet

NUM_RUNS = 30


def measure_costs(bench: Bench, skip_set: SkipSet) -> dict[str, float]:
    """Return median times of one row of all layers, one less the set, and a verify pass, in us."""
    stack, text = bench.stack, bench.texts[0]
    at = text.prompt_len + WINDOW_LEN
    table = table_of(text.pool)

    def timed(num_rows: int, skipped: SkipSet | None) -> float:
        tokens = text.tokens[at : at + num_rows]
        taken = []
        for _ in range(NUM_RUNS):
            started_ns = time.perf_counter_ns()
            rows = pack_rows([SessionRows(table, tokens, at)], stack.rope_table_P1C)
            x_RD = stack.embed(rows)
            if skipped is None:
                x_RD = stack.run(x_RD, 0, bench.num_layers, rows, text.pool.layers)
            else:
                x_RD = stack.run_without(skipped, x_RD, rows, text.pool.layers)
            stack.head(x_RD).argmax(-1).tolist()
            taken.append((time.perf_counter_ns() - started_ns) / 1e3)
        return median(taken)

    with torch.inference_mode():
        # What was drafted over is written anew by the full model first.
        return {
            "draft_step_us": timed(1, skip_set),
            "plain_step_us": timed(1, None),
            "verify_pass_us": timed(DRAFT_LEN + 1, None),
        }
