"""What draft adapters gain over the raw exits of the same layers, on one frozen model.

    python -m bench.kangaroo texts --model DIR --out DATA             texts in the model's own words
    shortstack train kangaroo --config FILE --data DATA --out OUT model.path=DIR
    python -m bench.kangaroo measure --model DIR --adapters OUT/draft_adapters --prompts FILE...

`texts` lets the model write, at temperature 1, what adapters learn from best. `measure` drives
`shortstack bench kangaroo` as a user would: a table, and for each exit by how much the accepted
length of the adapter exceeds that of the raw exit. Writes
bench/results/kangaroo-MODEL-MACHINE.json, with what the adapters' files say of their training and,
of a model that a run of ours made (its report.json lies beside it), what came of that.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.decode import RESULTS, absolute, machine_slug, shortstack

CARD = "draft_adapter.json"
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
    texts.add_argument("--model", type=absolute, required=True, help="the frozen model")
    texts.add_argument("--out", type=absolute, required=True, help="folder of the texts")
    texts.add_argument("--num-texts", type=int, default=4096, help="texts, one in 32 held out")
    texts.add_argument("--len", type=int, default=256, help="longest text, in tokens")
    texts.add_argument("--seed", type=int, default=1)
    texts.set_defaults(run=write_texts)
    replayed = commands.add_parser("measure", help="replay adapters and raw exits")
    replayed.add_argument("--model", type=absolute, required=True, help="the frozen model")
    replayed.add_argument("--adapters", type=absolute, required=True, help="their folder")
    replayed.add_argument("--prompts", type=absolute, nargs="+", required=True, help="JSONL files")
    replayed.add_argument("--name", help="of the model in the figures; default: its folder's")
    replayed.add_argument("--limit", type=int, default=0, help="prompts of each file; 0: all")
    replayed.add_argument("--prompt-len", type=int, default=64, help="tokens kept of each prompt")
    replayed.add_argument("--max-new-tokens", type=int, default=200)
    replayed.set_defaults(run=measure)
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


def measure(options: argparse.Namespace) -> None:
    """Measure, and keep the figures with the machine's name."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "result.json"
        given = [word for path in options.prompts for word in ("--prompts", path)]
        given += ["--model", options.model, "--adapters", options.adapters]
        given += ["--limit", options.limit, "--prompt-len", options.prompt_len]
        given += ["--max-new-tokens", options.max_new_tokens, "--num-threads", options.num_threads]
        shortstack("bench", "kangaroo", *given, "--out", made)
        result = json.loads(made.read_text(encoding="utf-8"))
    cards = [json.loads(path.read_text("utf-8")) for path in options.adapters.rglob(CARD)]
    result["training"] = {
        card["exit_layer"]: {"data": card["data"], "num_steps": card["num_steps"]} for card in cards
    }
    report = options.model.parent / "report.json"
    if report.is_file():
        result["model_training"] = training_of(json.loads(report.read_text("utf-8")))
    result["model"] = options.name or result["model"]
    path = RESULTS / f"kangaroo-{result['model']}-{machine_slug(result['machine'])}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(path)


def training_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a run of ours says of the model that it made."""
    recipe = report["config"]["recipe"]
    return {
        "num_steps": report["num_steps"],
        "num_tokens": report["num_tokens"],
        "train_s": report["train_s"],
        "recipe": {name: recipe[name] for name in ("p_max", "curriculum", "exit_distillation")},
        "loss": {name: text["cross_entropy"][-1] for name, text in report["scores"].items()},
    }


if __name__ == "__main__":
    main(sys.argv[1:])
