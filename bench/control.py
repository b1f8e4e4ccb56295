"""How well rounds are decided: the policies' figures that the documents quote.

    python -m bench.control replay                       the bundled model, its demo prompts
    python -m bench.control replay --prompts FILE …      one file per kind of text
    python -m bench.control live --prompts FILE …        the same on a real stack
    python -m bench.control all --prompts FILE …         both, and all requirements with verdicts

`replay` records what every exit says along texts of the model, measures what steps take, and
replays every policy over them. `live` measures policies against static settings through a gateway,
compares their counts with recorded texts, and tells what processes and messages take; `replay
--served RESULT` reckons with them, and `all` serves first. Drives `shortstack bench record-tapes`,
`policies` and `policies-live` as a user would, and writes
bench/results/control-WHAT-NAME-MACHINE.json. Run `live` on a machine that does nothing else; the
load average is kept with the result.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.decode import BUNDLED, RESULTS, absolute, cell, machine_slug, shortstack
from bench.serve import markdown

Result = dict[str, Any]


def main(arguments: Sequence[str]) -> None:
    """Measure what was asked for."""
    options = parse(arguments)
    if options.what == "all":
        shorter = {"limit": options.live_limit, "max_new_tokens": options.live_max_new_tokens}
        served = measure("live", argparse.Namespace(**vars(options) | shorter))
        options.served = options.served or served
        files = [measure("replay", options), served]
    else:
        files = [measure(options.what, options)]
    print(verdict_table([row for file in files for row in read(file)["acceptance"]]))


def measure(what: str, options: argparse.Namespace) -> Path:
    """Measure one half, keep its JSON, print its table; return where it is."""
    run, table = {"replay": (replay, replay_table), "live": (live, live_table)}[what]
    with tempfile.TemporaryDirectory() as folder:
        tapes = options.tapes or record(what, options, Path(folder) / "tapes")
        result = run(options, tapes, Path(folder) / "result.json")
    slug = machine_slug(result["machine"])
    name = f"-{options.name}" if options.name else ""
    file = RESULTS / f"control-{what}-{options.model.name}{name}-{slug}.json"
    RESULTS.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(file)
    print(table(result))
    return file


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=absolute, default=BUNDLED)
    parser.add_argument("--exits", default="2,3,4,6")
    parser.add_argument("--num-threads", type=int, default=0)
    parser.add_argument("--name", default="", help="a word for the name of the result")
    kinds = parser.add_subparsers(dest="what", required=True)
    replayed = kinds.add_parser("replay", help="policies over recorded texts, in virtual time")
    add_texts(replayed, max_new_tokens=512)
    add_replay(replayed)
    served = kinds.add_parser("live", help="policies and static settings on a real stack")
    add_texts(served, max_new_tokens=128)
    add_live(served)
    both = kinds.add_parser("all", help="both; live rounds are compared with replayed ones")
    add_texts(both, max_new_tokens=256)
    add_replay(both)
    add_live(both)
    both.add_argument("--live-limit", type=int, default=4)
    both.add_argument("--live-max-new-tokens", type=int, default=160)
    for each in (replayed, served, both):
        each.add_argument("--costs", type=absolute, help="an earlier replay's; default: measured")
    return parser.parse_args(arguments)


def add_replay(parser: argparse.ArgumentParser) -> None:
    """Add what says how to replay."""
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--contenders", help="of the replay, by comma; default: all")
    parser.add_argument("--session-len", type=int, default=900)
    parser.add_argument("--served", type=absolute, help="a live result: costs between processes")
    parser.add_argument("--plot", type=absolute, help="a PNG")


def add_live(parser: argparse.ArgumentParser) -> None:
    """Add what says how to serve."""
    parser.add_argument("--draft-lens", default="1,2,3,4,6,8")
    parser.add_argument("--policies", default="goodput")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warm-up-tokens", type=int, default=2000)


def add_texts(parser: argparse.ArgumentParser, max_new_tokens: int) -> None:
    """Add what says which texts."""
    parser.add_argument("--prompts", type=absolute, nargs="+", default=[])
    parser.add_argument("--limit", type=int, default=0, help="prompts of each file; 0: all")
    parser.add_argument("--max-prompt-len", type=int, default=0, help="tokens kept; 0: all")
    parser.add_argument("--max-new-tokens", type=int, default=max_new_tokens)
    parser.add_argument("--tapes", type=absolute, help="recorded texts; default: made now")


def texts(options: argparse.Namespace) -> list[object]:
    """Return the options that name model and texts."""
    files = [word for file in options.prompts for word in ("--prompts", file)]
    which = [*files, "--limit", options.limit, "--max-prompt-len", options.max_prompt_len]
    how = ["--num-threads", options.num_threads, "--max-new-tokens", options.max_new_tokens]
    return ["--model", options.model, *which, *how]


def record(what: str, options: argparse.Namespace, folder: Path) -> Path:
    """Record every exit along every text; return where."""
    sampling: tuple[object, ...] = ()
    if what == "replay":
        sampling = ("--temperature", options.temperature, "--seed", options.seed)
    shortstack("bench", "record-tapes", *texts(options), *sampling, "--out", folder)
    return folder


def replay(options: argparse.Namespace, tapes: Path, out: Path) -> Result:
    """Replay all contenders; return the JSON."""
    words: list[object] = ["--tapes", tapes, "--model", options.model, "--exits", options.exits]
    words += ["--num-threads", options.num_threads, "--session-len", options.session_len]
    for name, value in (
        ("policies", options.contenders),
        ("costs", options.costs),
        ("served", options.served),
        ("plot", options.plot),
    ):
        if value:
            words += [f"--{name}", value]
    shortstack("bench", "policies", *words, "--out", out)
    return read(out)


def live(options: argparse.Namespace, tapes: Path, out: Path) -> Result:
    """Measure policies and static settings on a stack; return the JSON."""
    words: list[object] = [*texts(options), "--exits", options.exits, "--tapes", tapes]
    words += ["--draft-lens", options.draft_lens, "--policies", options.policies]
    words += ["--repeats", options.repeats, "--warm-up-tokens", options.warm_up_tokens]
    words += ["--costs", options.costs] if options.costs else ["--measure-costs"]
    shortstack("bench", "policies-live", *words, "--out", out)
    return read(out)


def read(file: Path) -> Result:
    """Read a command's JSON."""
    result: Result = json.loads(file.read_text(encoding="utf-8"))
    return result


def replay_table(result: Result) -> str:
    """Return shares of the best static setting in hindsight: a row per contender."""
    workloads = {**result["stationary"], "all": result["in_turn"], "shift": result["shift"]}
    workloads = {name: each for name, each in workloads.items() if each}
    names = dict.fromkeys(name for each in workloads.values() for name in each["contenders"])
    rows = [
        [name, *(share(each["contenders"].get(name)) for each in workloads.values())]
        for name in names
    ]
    return markdown(["speed / O2", *workloads], rows)


def share(figures: Result | None) -> str:
    """Return a contender's share of O2, where it took part."""
    return cell(figures["share_of_o2"] if figures else None)


def live_table(result: Result) -> str:
    """Return a row per kind of text."""
    policies = list(result["kinds"][0]["over_best"])
    columns = ["", "plain tok/s", "best static", "tok/s"]
    columns += [word for name in policies for word in (f"{name} tok/s", f"{name} / best static")]
    rows = []
    for kind in result["kinds"]:
        best = kind["best_static"]
        row = [kind["kind"], cell(kind["tok_s"]["plain"]), best, cell(kind["tok_s"][best])]
        for name in policies:
            row += [cell(kind["tok_s"][name]), cell(kind["over_best"][name])]
        rows.append(row)
    return markdown(columns, rows)


def verdict_table(rows: Sequence[Result]) -> str:
    """Return a row per requirement."""
    lines = []
    for row in rows:
        sign = "<=" if row["is_most"] else ">="
        verdict = "met" if row["is_met"] else "MISSED"
        lines.append([row["what"], f"{sign} {row['bound']:g}", cell(row["found"]), verdict])
    return markdown(["required of goodput", "bound", "found", "verdict"], lines)


if __name__ == "__main__":
    main(sys.argv[1:])
