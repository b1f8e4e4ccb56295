"""`shortstack bench draft-vocab`: what a draft vocabulary saves of a draft step.

    shortstack bench draft-vocab --vocab-size 65536 --size 8192 --size 16384

On a random model made on the fly: weights are random, so it says nothing of acceptance. Draft steps
with the whole vocabulary and with parts of it take turns; their ratio is what holds on a busy
machine.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.telemetry.machine import describe_machine
from shortstack import options
from shortstack.bench.arguments import publish
from shortstack.bench.report import rounded_values
from shortstack.bench.shapes import HEAD_SIZE, ModelShape
from shortstack.errors import UsageError

if TYPE_CHECKING:
    from shortstack.bench.draft_steps import DraftStepTimes

MIN_VOCAB_SIZE = 1024


def command(
    layers: Annotated[int, typer.Option(min=2, help="Layers of the model.")] = 8,
    hidden: Annotated[int, typer.Option(min=HEAD_SIZE, help="Its hidden size.")] = 512,
    vocab_size: Annotated[int, typer.Option(min=MIN_VOCAB_SIZE, help="Its vocabulary.")] = 65536,
    size: Annotated[
        list[int] | None, typer.Option(help="Tokens to draft from; repeatable.")
    ] = None,
    exit_layer: options.ExitLayer = 2,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each step.")] = 60,
    num_threads: options.NumThreads = 0,
    as_json: options.AsJson = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON here.")] = None,
) -> None:
    """Measure what a draft vocabulary saves of a draft step, on a random model."""
    sizes = size or [vocab_size // 8, vocab_size // 4]
    shape = shape_of(layers, hidden, vocab_size)
    check(shape, sizes, exit_layer or 2)
    from torch import get_num_threads, set_num_threads

    from shortstack.bench.draft_steps import measure_draft_steps

    if num_threads:
        set_num_threads(num_threads)
    times = measure_draft_steps(shape, exit_layer or 2, sizes, runs)
    conditions = {
        "shape": asdict(shape),
        "head_to_layer": shape.vocab_size * shape.hidden_size / shape.num_layer_params,
        "exit_layer": exit_layer or 2,
        "runs": runs,
        "num_threads": get_num_threads(),
    }
    result = make_result(times, vocab_size, conditions)
    publish(result, as_json, out)
    if not as_json:
        print(describe(result))


def shape_of(num_layers: int, hidden_size: int, vocab_size: int) -> ModelShape:
    """Return a shape with the proportions of a Llama."""
    num_heads = max(1, hidden_size // HEAD_SIZE)
    num_kv_heads = num_heads // 2 if num_heads % 2 == 0 else num_heads
    return ModelShape(num_layers, hidden_size, 3 * hidden_size, num_heads, num_kv_heads, vocab_size)


def check(shape: ModelShape, sizes: list[int], exit_layer: int) -> None:
    """Refuse what cannot be measured.

    Raises:
        UsageError: names the option.
    """
    if shape.hidden_size % HEAD_SIZE:
        raise UsageError(f"--hidden {shape.hidden_size} must be a multiple of {HEAD_SIZE}")
    if not exit_layer < shape.num_layers:
        raise UsageError(f"--exit-layer {exit_layer} must lie in [1, {shape.num_layers - 1}]")
    for size in sizes:
        if not 2 <= size < shape.vocab_size:
            raise UsageError(f"--size {size} must lie in [2, {shape.vocab_size - 1}]")


def make_result(
    times: "DraftStepTimes", vocab_size: int, conditions: dict[str, Any]
) -> dict[str, Any]:
    """Return all that is published; `ratio` is the whole vocabulary's step over the part's."""
    layers_ns = times.layers_alone_ns
    steps = []
    for mode, by_size in (("greedy", times.greedy_ns), ("sampled", times.sampled_ns)):
        whole_ns = by_size[vocab_size]
        steps += [
            {
                "mode": mode,
                "draft_tokens": size,
                "whole_step_us": whole_ns / 1e3,
                "step_us": step_ns / 1e3,
                "ratio": whole_ns / step_ns,
                "head_and_choice_ratio": (whole_ns - layers_ns) / (step_ns - layers_ns),
            }
            for size, step_ns in by_size.items()
            if size != vocab_size
        ]
    values = {"layers_alone_us": layers_ns / 1e3, "steps": steps, "conditions": conditions}
    rounded: dict[str, Any] = rounded_values(values | {"machine": asdict(describe_machine())})
    return rounded


def describe(result: dict[str, Any]) -> str:
    """Return the result for a terminal."""
    vocab_size = result["conditions"]["shape"]["vocab_size"]
    lines = [f"layers [0, E) alone: {result['layers_alone_us']:.0f} us"]
    lines += [
        f"{row['mode']:>8}, {row['draft_tokens']:>6} of {vocab_size} tokens:"
        f" {row['whole_step_us']:7.0f} -> {row['step_us']:7.0f} us a step, {row['ratio']:.2f} x"
        for row in result["steps"]
    ]
    return "\n".join(lines)
