"""What draft adapters gain over the raw exits of the same layers, on one frozen model.

    python -m bench.kangaroo texts --model DIR --out DATA             texts in the model's own words
    shortstack train kangaroo --config FILE --data DATA --out OUT model.path=DIR
    python -m bench.kangaroo measure --model DIR --adapters OUT/draft_adapters --prompts FILE...

`texts` lets the model write, at temperature 1, what adapters learn from best. `measure` lets it
continue held-out prompts greedily, reads every adapter and the raw exit at its layer along that
text, and replays rounds over what was read: which drafts would have been kept is exact, see
`shared.speculation.tape`. Prints a table and, for each exit, by how much the accepted length of the
adapter exceeds that of the raw exit; writes bench/results/kangaroo-MODEL-MACHINE.json.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from bench.decode import RESULTS, machine_slug
from shared.model.config import read_config
from shared.model.draft_adapter_file import CARD_NAME
from shared.model.layer_stack import LayerStack
from shared.speculation.tape import Tape, replay, sum_replays
from shared.telemetry.machine import describe_machine
from shortstack.bench.prompts import BenchPrompt, read_bench_prompts, tokenizer_of
from shortstack.exits.reading import read_texts

DRAFT_LEN = 6
THRESHOLDS = (0.0, 0.6)
# What an adapter must bring over the raw exit to be worth its training.
TARGET_RATIO = 1.15
END = "<|endoftext|>"
NUM_AT_ONCE = 64


def main(arguments: Sequence[str]) -> None:
    """Write texts, or measure."""
    options = parse(arguments)
    if options.num_threads:
        torch.set_num_threads(options.num_threads)
    options.run(options)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--num-threads", type=int, default=0, help="CPU threads; 0: all")
    commands = parser.add_subparsers(required=True)
    texts = commands.add_parser("texts", help="let the model write texts to train on")
    texts.add_argument("--model", type=Path, required=True, help="the frozen model's directory")
    texts.add_argument("--out", type=Path, required=True, help="own.train.txt and own.valid.txt")
    texts.add_argument("--num-texts", type=int, default=4096, help="texts, one in 32 held out")
    texts.add_argument("--len", type=int, default=256, help="longest text, in tokens")
    texts.add_argument("--seed", type=int, default=1)
    texts.set_defaults(run=write_texts)
    measure = commands.add_parser("measure", help="replay adapters and raw exits")
    measure.add_argument("--model", type=Path, required=True, help="the frozen model's directory")
    measure.add_argument("--adapters", type=Path, required=True, help="folder of draft adapters")
    measure.add_argument("--prompts", type=Path, nargs="+", required=True, help="JSONL files")
    measure.add_argument("--limit", type=int, default=0, help="prompts of each file; 0: all")
    measure.add_argument("--prompt-len", type=int, default=64, help="tokens kept of each prompt")
    measure.add_argument("--max-new-tokens", type=int, default=200)
    measure.set_defaults(run=measure_all)
    return parser.parse_args(arguments)


# --- texts ----------------------------------------------------------------------------------------


def write_texts(options: argparse.Namespace) -> None:
    """Let the model write texts from its first token on, and split them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(options.seed)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    bos = model.config.bos_token_id
    begin = torch.full((NUM_AT_ONCE, 1), bos if bos is not None else model.config.eos_token_id)
    texts: list[str] = []
    while len(texts) < options.num_texts:
        ids = model.generate(
            begin,
            attention_mask=torch.ones_like(begin),
            do_sample=True,
            top_k=0,
            max_length=options.len,
            pad_token_id=model.config.eos_token_id,
        )
        texts += tokenizer.batch_decode(ids, skip_special_tokens=True)
        print(f"{len(texts)} of {options.num_texts}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    learnt = [text for index, text in enumerate(texts) if index % 32]
    for name, own in (("valid", texts[::32]), ("train", learnt)):
        path = options.out / f"own.{name}.txt"
        path.write_text("".join(f"{text.strip()}\n{END}\n" for text in own), encoding="utf-8")
        print(path)


# --- measuring ------------------------------------------------------------------------------------


def measure_all(options: argparse.Namespace) -> None:
    """Read, replay, print, write."""
    config = read_config(options.model)
    adapters = config.find_draft_adapters(str(options.adapters))
    stack = LayerStack(config, draft_adapters=adapters)
    prompts = prompts_of(options)
    tapes = {
        who: [
            each.tape
            for each in read_texts(
                stack, prompts, options.max_new_tokens, through_adapters=who == "adapter"
            )
        ]
        for who in ("raw", "adapter")
    }
    exits = stack.means.adapter_layers
    rows = {
        exit_layer: {who: figures(own, exit_layer) for who, own in tapes.items()}
        for exit_layer in exits
    }
    result = {
        "description": (
            f"{len(prompts)} held-out prompts continued greedily by the frozen model, up to"
            f" {options.max_new_tokens} tokens each; drafts of at most {DRAFT_LEN}, replayed over"
            " what the adapter and the raw exit at the same layer say along that text."
        ),
        "model": options.model.resolve().name,
        "prompts": [path.name for path in options.prompts],
        "num_prompts": len(prompts),
        "num_tokens": sum(tape.num_tokens for tape in tapes["raw"]),
        "draft_len": DRAFT_LEN,
        "exits": rows,
        "verdicts": {each: verdict(each, rows[each]) for each in exits},
        "cards": {each.exit_layer: card_of(options.adapters, each.exit_layer) for each in adapters},
        "machine": asdict(describe_machine()),
    }
    print(text_table(rows))
    for line in result["verdicts"].values():
        print(line)
    path = RESULTS / f"kangaroo-{result['model']}-{machine_slug(result['machine'])}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(path)


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
    raw, adapter = (rows[who][name]["accepted_len"] for who in ("raw", "adapter"))
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


def prompts_of(options: argparse.Namespace) -> list[BenchPrompt]:
    """The first tokens of every prompt: a context of few tokens has room for the text as well."""
    found = read_bench_prompts(options.prompts, tokenizer_of(options.model), options.limit)
    return [replace(each, token_ids=each.token_ids[: options.prompt_len]) for each in found]


def card_of(folder: Path, exit_layer: int) -> dict[str, Any]:
    """What an adapter's file says of its training."""
    cards = [json.loads(path.read_text(encoding="utf-8")) for path in folder.rglob(CARD_NAME)]
    card = next(each for each in cards if each["exit_layer"] == exit_layer)
    return {name: card[name] for name in ("data", "num_steps")}


if __name__ == "__main__":
    main(sys.argv[1:])
