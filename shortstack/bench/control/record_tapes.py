"""`shortstack bench record-tapes`: let a model write, and keep what its exits said of the text.

    shortstack bench record-tapes --model DIR --prompts FILE --out DIR --exits 2,3,4,6

One npz per prompt. Runs in this process; nothing is served, and nothing is timed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from shortstack import options
from shortstack.bench.arguments import parse_numbers
from shortstack.bench.control.options import MaxPromptLen, default_prompts
from shortstack.checkpoint import require_model_dir
from shortstack.errors import CommandError, UsageError
from shortstack.exits.options import require_package
from shortstack.exits.prompts import read_fitting_prompts
from shortstack.options import make_sampling
from shortstack.progress import Bars

if TYPE_CHECKING:
    from shortstack.bench.control.record import RecordPlan

ALL_EXITS = "all"


def command(
    out: Annotated[Path, typer.Option(help="Folder for the recorded texts, one npz each.")],
    model: options.Model = None,
    prompts: Annotated[
        list[Path] | None, typer.Option(help="JSON lines: id, kind, prompt; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Prompts of each file; 0: all.")] = 0,
    max_prompt_len: MaxPromptLen = 0,
    exits: Annotated[str, typer.Option(help="Exit layers by comma, or all.")] = ALL_EXITS,
    max_new_tokens: Annotated[int, typer.Option(min=2, help="Tokens of each text.")] = 256,
    temperature: options.Temperature = 0.0,
    seed: options.Seed = 0,
    num_threads: Annotated[
        int, typer.Option(min=0, help="Compute threads; 0: as workers have.")
    ] = 0,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
) -> None:
    """Record what every exit says along texts of a model."""
    require_package("torch", "worker", "shortstack bench record-tapes")
    from shortstack.bench.control.record import RecordPlan

    wanted = () if exits == ALL_EXITS else parse_numbers("--exits", exits, int)
    plan = RecordPlan(
        model_dir=require_model_dir(model),
        exits=tuple(sorted(set(wanted))),
        max_new_tokens=max_new_tokens,
        sampling=make_sampling(temperature, seed=seed),
        dtype=dtype,
        num_threads=num_threads,
    )
    num_texts = record_into(out, plan, prompts or default_prompts(), limit, max_prompt_len)
    print(f"{num_texts} texts in {out}")


def record_into(
    out: Path, plan: "RecordPlan", files: Sequence[Path], limit: int, max_prompt_len: int = 0
) -> int:
    """Record every prompt of the files into a folder; return how many texts there are.

    Raises:
        UsageError: a file cannot be used, or the folder holds recordings already.
        CommandError: the model ended every text at its first token.
    """
    from shared.model.config import read_config
    from shortstack.bench.control.record import load, record
    from shortstack.bench.control.tape_file import write_recording

    config = read_config(plan.model_dir, plan.dtype)
    plan.exits_of(config)
    found = read_fitting_prompts(
        files,
        plan.model_dir,
        limit,
        max_context_len=config.max_context_len,
        vocab_size=config.vocab_size,
        max_len=max_prompt_len,
    )
    if out.is_dir() and any(out.glob("*.npz")):
        raise UsageError(f"--out: {out} holds recordings already; name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    num_texts = 0
    with Bars(Console(stderr=True, markup=False, highlight=False)) as bars:
        stack = load(plan, lambda _, done, total: bars.show("loading", done, total))
        on_prompt = bars.add_bar("decoding, reading exits", len(found))
        for num_texts, each in enumerate(record(stack, plan, found, on_prompt), 1):
            write_recording(out / f"{num_texts - 1:04d}.npz", each)
    if not num_texts:
        raise CommandError("the model ended every text at its first token: try other prompts")
    return num_texts
