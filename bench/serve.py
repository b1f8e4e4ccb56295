"""The figures of serving under load that the README quotes.

    python -m bench.serve sweep                          126M parameters, agreement .8 at layer 2
    python -m bench.serve sweep --model DIR --prompts FILE …
    python -m bench.serve all                            sweep, and every other scenario after it

Drives `shortstack bench synth` and `shortstack bench serve` as a user would, prints a table and
writes bench/results/serve-SCENARIO-NAME-MACHINE.json. Run it on a machine that does nothing else;
the load average is kept with the result.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.decode import REPO, RESULTS, absolute, cell, machine_slug, shortstack

Result = dict[str, Any]
NUM_PROMPTS, PROMPT_LENS = 16, (24, 48, 96, 192, 320)


def main(arguments: Sequence[str]) -> None:
    """Measure what was asked for; a scenario whose claims do not hold ends the script with 1."""
    options = parse(arguments)
    scenarios = list(TABLES) if options.what == "all" else [options.what]
    with tempfile.TemporaryDirectory() as folder:
        model, prompts, name = subject(options, Path(folder))
        statuses = [measure(scenario, model, prompts, name, options) for scenario in scenarios]
    sys.exit(max(statuses))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["all", *TABLES])
    parser.add_argument("--model", type=absolute, help="default: a random model made on the fly")
    parser.add_argument("--prompts", type=absolute, nargs="+", default=[])
    parser.add_argument("--params", default="126M")
    parser.add_argument("--agreement", type=float, default=0.8)
    parser.add_argument("--at-layer", type=int, default=2)
    parser.add_argument("--draft-len", type=int, default=4)
    parser.add_argument("--concurrency", default="1,2,4,8,16,32")
    parser.add_argument("--rates", default="")
    parser.add_argument("--modes", help="default: auto, off and the model's best static setting")
    parser.add_argument("--peers", default="hf-continuous,hf")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--duration", help="seconds; default: as each scenario has it")
    parser.add_argument("--max-new-tokens", default="32,64,128")
    options = parser.parse_args(arguments)
    if bool(options.model) != bool(options.prompts):
        parser.error("--model and --prompts go together")
    return options


def subject(options: argparse.Namespace, folder: Path) -> tuple[Path, list[Path], str]:
    """Return model, prompts and a name for them; without a model one is made."""
    if options.model:
        return options.model, options.prompts, options.model.name
    model, prompts = folder / f"synth-{options.params}", folder / "prompts.jsonl"
    wish = ("--params", options.params, "--agreement", options.agreement)
    shortstack("bench", "synth", *wish, "--at-layer", options.at_layer, "--out", model)
    write_prompts(prompts, model)
    return model, [prompts], f"synthetic-{options.params}"


def write_prompts(file: Path, model: Path) -> None:
    """Write prompts of random words, of several lengths."""
    vocab_size = json.loads((model / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    draw = random.Random(0)
    with file.open("w", encoding="utf-8") as lines:
        for index in range(NUM_PROMPTS):
            num_ids = PROMPT_LENS[index % len(PROMPT_LENS)]
            ids = [draw.randrange(300, vocab_size) for _ in range(num_ids)]
            line = {"id": f"synthetic-{index}", "kind": "synthetic", "token_ids": ids}
            lines.write(json.dumps(line) + "\n")


def measure(
    scenario: str, model: Path, prompts: Sequence[Path], name: str, options: argparse.Namespace
) -> int:
    """Run one scenario, keep its JSON, print its table; return its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        files = [word for file in prompts for word in ("--prompts", file)]
        words = [
            "--model",
            model,
            *files,
            "--limit",
            0,
            "--out",
            out,
            *more_words(scenario, options),
        ]
        command = [sys.executable, "-m", "shortstack.cli", "bench", "serve", "--scenario", scenario]
        status = subprocess.run([*command, *map(str, words)], cwd=REPO, check=False).returncode
        if not out.is_file():
            return status or 1
        result: Result = json.loads(out.read_text(encoding="utf-8"))
    print(f"{scenario}: {write_result(f'{scenario}-{name}', result)}")
    print(TABLES[scenario](result))
    return status


def more_words(scenario: str, options: argparse.Namespace) -> list[object]:
    """Return the options of a scenario; only a sweep has clients, rates and peers."""
    static = f"static:E={options.at_layer}:d={options.draft_len}"
    words: list[object] = ["--max-new-tokens", options.max_new_tokens]
    words += ["--repeats", options.repeats]
    if options.duration:
        words += ["--duration", options.duration]
    if scenario != "sweep":
        return [*words, "--modes", "auto,off"]
    loads = ("--concurrency", options.concurrency, "--rates", options.rates)
    modes = options.modes or f"auto,off,{static}"
    return [*words, "--modes", modes, *loads, "--peers", options.peers]


def write_result(name: str, result: Result) -> Path:
    """Write a result under the name of its machine."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"serve-{name}-{machine_slug(result['machine'])}.json"
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return file


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the first column is a name, the others are numbers."""
    lines = [f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def sweep_table(result: Result) -> str:
    """Return a row per load and sender."""
    references = list(result["points"][0]["tok_s_over"])
    columns = ["load", "", "tok/s", *(f"over {name}" for name in references)]
    columns += ["TTFT p50", "TTFT p99", "TBT p50", "TBT p99", "acceptance"]
    rows = []
    for point in result["points"]:
        median = point["median"]
        ratios = [point["tok_s_over"][name] for name in references]
        spreads = [
            spread(median[key], at) for key in ("ttft_ms", "tbt_ms") for at in ("p50", "p99")
        ]
        values = [median["tok_s"], *ratios, *spreads, median["acceptance_rate"]]
        unit = "clients" if point["load"] == "closed" else "requests/s"
        rows.append([f"{point['size']:g} {unit}", point["sender"], *map(cell, values)])
    return markdown(columns, rows)


def spread(value: Result | None, at: str) -> float | None:
    """Return a percentile, where there is one."""
    return None if value is None else value[at]


def arriving_table(result: Result) -> str:
    """Return a row per mode."""
    columns = ["mode", "TBT p50 without", "TBT p99 with", "ratio"]
    return markdown(
        columns,
        [
            [
                mode["mode"],
                cell(spread(mode["without"], "p50")),
                cell(spread(mode["disturbed"], "p99")),
                cell(mode["ratio"]),
            ]
            for mode in result["modes"]
        ],
    )


def next_turn_table(result: Result) -> str:
    """Return a row per mode and kind of reuse."""
    keys = ("first_ttft_ms", "next_ttft_ms", "ratio", "cached_share")
    rows = [
        [f"{mode}, {what}", *(cell(values[key]) for key in keys)]
        for mode, kinds in result["modes"].items()
        for what, values in kinds.items()
    ]
    return markdown(["", "first TTFT ms", "next TTFT ms", "next / first", "cached"], rows)


def overload_table(result: Result) -> str:
    """Return a row per mode."""
    rows = []
    for mode, values in result["modes"].items():
        figures = values["figures"]
        counts = [str(figures[key]) for key in ("num_done", "num_refused", "num_failed")]
        rates = [cell(values[key]) for key in ("capacity_requests_s", "rate_requests_s")]
        rows.append([mode, *rates, *counts, cell(spread(values["refusal_ms"], "p99"))])
    columns = ["mode", "capacity /s", "arrivals /s", "answered", "refused", "lost"]
    return markdown([*columns, "refusal p99 ms"], rows)


def soak_table(result: Result) -> str:
    """Return a row per process."""
    keys = ("num_fds", "num_threads", "pss_bytes")
    rows = [
        [name, *(f"{each['before'][key]} -> {each['after'][key]}" for key in keys)]
        for name, each in result["processes"].items()
    ]
    return markdown(["process", "file descriptors", "threads", "PSS bytes"], rows)


TABLES: dict[str, Callable[[Result], str]] = {
    "sweep": sweep_table,
    "prompts-arriving": arriving_table,
    "next-turn": next_turn_table,
    "overload": overload_table,
    "soak": soak_table,
}


if __name__ == "__main__":
    main(sys.argv[1:])
