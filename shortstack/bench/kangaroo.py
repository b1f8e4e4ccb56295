"""`shortstack bench kangaroo`: draft adapters beside the raw exits of the same layers.

The frozen model continues held-out prompts greedily; every adapter and the raw exit at its layer
are read along that text, and rounds replayed over what was read. Which drafts would have been kept
is exact, see `shared.speculation.tape`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.speculation.tape import Tape, replay, sum_replays
from shared.telemetry.machine import describe_machine
from shortstack import options
from shortstack.bench.prompts import BenchPrompt, read_bench_prompts, tokenizer_of
from shortstack.checkpoint import require_model_dir

if TYPE_CHECKING:
    from shared.model.layer_stack import LayerStack

DRAFT_LEN = 6
THRESHOLDS = (0.0, 0.6)
# What an adapter must bring over the raw exit to be worth its training.
TARGET_RATIO = 1.15


def command(
    adapters: Annotated[Path, typer.Option(help="Folder of draft adapters of this model.")],
    prompts: Annotated[list[Path], typer.Option(help="JSONL files of held-out prompts.")],
    model: options.Model = None,
    limit: Annotated[int, typer.Option(min=0, help="Prompts of each file; 0: all.")] = 0,
    prompt_len: Annotated[int, typer.Option(min=1, help="Tokens kept of each prompt.")] = 64,
    max_new_tokens: Annotated[int, typer.Option(min=2, help="Longest text.")] = 200,
    num_threads: options.NumThreads = None,
    out: Annotated[Path | None, typer.Option(help="Keep the figures here, as JSON.")] = None,
) -> None:
    """Replay draft adapters beside the raw exits at their layers."""
    import torch

    from shared.model.config import read_config
    from shared.model.layer_stack import LayerStack

    if num_threads:
        torch.set_num_threads(num_threads)
    model_dir = require_model_dir(model)
    encode = tokenizer_of(model_dir)
    found = [
        replace(each, token_ids=each.token_ids[:prompt_len])
        for each in read_bench_prompts(prompts, encode, limit)
    ]
    config = read_config(model_dir)
    stack = LayerStack(config, draft_adapters=config.find_draft_adapters(str(adapters)))
    result = measure(stack, found, max_new_tokens)
    result |= {"model": model_dir.resolve().name, "prompts": [path.name for path in prompts]}
    print(text_table(result["exits"]))
    for line in result["verdicts"].values():
        print(line)
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure(
    stack: "LayerStack", prompts: Sequence[BenchPrompt], max_new_tokens: int
) -> dict[str, Any]:
    """Read and replay; the stack has the adapters."""
    from shortstack.exits.reading import read_texts

    readings = {
        who: read_texts(stack, prompts, max_new_tokens, through_adapters=who == "adapter")
        for who in ("raw", "adapter")
    }
    tapes = {who: [each.tape for each in own] for who, own in readings.items()}
    exits = stack.means.adapter_layers
    rows = {each: {who: figures(own, each) for who, own in tapes.items()} for each in exits}
    return {
        "description": (
            f"{len(prompts)} held-out prompts continued greedily by the frozen model, up to"
            f" {max_new_tokens} tokens each; drafts of at most {DRAFT_LEN}, replayed over what the"
            " adapter and the raw exit at the same layer say along that text."
        ),
        "num_prompts": len(prompts),
        "num_tokens": sum(tape.num_tokens for tape in tapes["raw"]),
        "num_near_ties": sum(each.num_near_ties for each in readings["raw"]),
        "draft_len": DRAFT_LEN,
        "exits": rows,
        "verdicts": {each: verdict(each, rows[each]) for each in exits},
        "num_parameters": {each.exit_layer: each.num_parameters for each in stack.adapter_weights},
        "machine": asdict(describe_machine()),
    }


def figures(tapes: Sequence[Tape], exit_layer: int) -> dict[str, Any]:
    """Agreement along the texts, and what rounds of drafts from this exit would have kept."""
    tracks = [tape.tracks[exit_layer] for tape in tapes]
    num_places = sum(len(track.matches) for track in tracks)
    found: dict[str, Any] = {"agreement": sum(sum(t.matches) for t in tracks) / num_places}
    for threshold in THRESHOLDS:
        total = sum_replays(replay(tape, exit_layer, DRAFT_LEN, threshold) for tape in tapes)
        summary = total.summary
        found[f"threshold {threshold:g}"] = {
            "accepted_len": summary.num_accepted_tokens / max(1, summary.num_drafts),
            "mean_emitted_len": summary.mean_emitted_len,
            "acceptance_rate": summary.acceptance_rate,
            "rows_per_token": (summary.num_draft_tokens + total.num_rounds) / total.num_tokens,
        }
    return found


def ratio(rows: Mapping[str, Any], threshold: float) -> float:
    """Accepted length of the adapter over that of the raw exit."""
    name = f"threshold {threshold:g}"
    raw, adapter = (float(rows[who][name]["accepted_len"]) for who in ("raw", "adapter"))
    return adapter / raw if raw else float("inf")


def verdict(exit_layer: int, rows: Mapping[str, Any]) -> str:
    """Say whether the adapter is worth its training."""
    ratios = [ratio(rows, threshold) for threshold in THRESHOLDS]
    told = ", ".join(f"{r:.2f} at {t:g}" for r, t in zip(ratios, THRESHOLDS, strict=True))
    word = "reached" if min(ratios) >= TARGET_RATIO else "MISSED"
    return f"exit {exit_layer}: accepted length adapter / raw {told}; {TARGET_RATIO} {word}"


def text_table(rows: Mapping[int, Mapping[str, Any]]) -> str:
    """The figures of every exit, raw and through its adapter."""
    lines = ["exit  read     agreement   accepted/emitted/rate/rows a token, by threshold"]
    for exit_layer, both in rows.items():
        for who, found in both.items():
            shown = "   ".join(_shown(found[f"threshold {t:g}"], t) for t in THRESHOLDS)
            lines.append(f"{exit_layer:>4}  {who:<8} {found['agreement']:.3f}       {shown}")
    return "\n".join(lines)


def _shown(one: Mapping[str, float], threshold: float) -> str:
    names = ("accepted_len", "mean_emitted_len", "acceptance_rate", "rows_per_token")
    return f"{threshold:g}: {' '.join(f'{one[name]:.2f}' for name in names)}"
