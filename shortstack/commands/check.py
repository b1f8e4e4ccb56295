"""`shortstack check`: every prompt through the whole stack and through the reference.

Under greedy the reference is transformers in float32, under sampling our own plain decoding with
the same seed. Exit status 1 when a token differs that is no near tie (see `checking.compare`).
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track

from shared.speculation.vocabulary import SamplingParams, SpeculationSummary
from shortstack import options
from shortstack.checking.compare import NEAR_TIE_GAP, Difference, Outcome, compare, count
from shortstack.checking.prompts import PromptLine, read_prompts
from shortstack.checking.stack_run import (
    EncodedPrompt,
    RunOptions,
    StackRun,
    new_tokens_of,
    run_through_stack,
)
from shortstack.checking.stand_in import servable
from shortstack.checkpoint import require_model_dir
from shortstack.client import Completion
from shortstack.errors import CommandError, UsageError
from shortstack.plan import CellKind, StackConfig
from shortstack.progress import StartProgress
from shortstack.running import run_command

if TYPE_CHECKING:
    from shortstack.checking.reference import Reference


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found, over all prompts."""

    prompts: int
    tokens: int
    mismatches: int
    near_ties: int
    acceptance_rate: float
    mean_emitted_len: float


def command(
    prompts: Annotated[Path, typer.Option(help="JSON lines with `prompt` or `token_ids`.")],
    model: options.Model = None,
    max_new_tokens: options.MaxNewTokens = 64,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    top_k: options.TopK = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampling.")] = 0,
    exit_layer: options.ExitLayer = None,
    draft_len: options.DraftLen = None,
    stop_threshold: options.StopThreshold = None,
    cell: options.Cell = CellKind.SPLIT,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    device: options.Device = None,
    num_threads: options.NumThreads = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Prompts at a time.")] = 4,
    near_tie_gap: Annotated[
        float, typer.Option(min=0, help="A difference at a smaller top-two gap is a near tie.")
    ] = NEAR_TIE_GAP,
    as_json: options.AsJson = False,
) -> None:
    """Compare the stack's tokens with a reference's, prompt by prompt."""
    model_dir = require_model_dir(model)
    lines = read_prompts(prompts)
    config = StackConfig(
        model=model_dir, cell_kind=cell, dtype=dtype, device=device, num_threads=num_threads
    )
    run_options = RunOptions(
        max_new_tokens,
        SamplingParams(temperature, top_k=top_k, top_p=top_p, seed=seed),
        # Never shed: what is checked is speculation.
        replace(
            options.make_speculation(None, exit_layer, draft_len, stop_threshold), mode="force"
        ),
        concurrency,
    )
    console = Console(stderr=True)
    encoded = encode_all(model_dir, lines)
    run = run_stack(config, encoded, run_options, console)
    differences = compare_all(encoded, config, run_options, run, near_tie_gap, console)
    report = make_report(run, differences)
    if as_json:
        print(json.dumps(asdict(report)))
    else:
        for name, value in asdict(report).items():
            print(f"{name:<18}{value:.4g}")
    if report.mismatches:
        sys.exit(1)


def encode_all(model_dir: Path, lines: Sequence[PromptLine]) -> list[EncodedPrompt]:
    """Turn all prompts into ids, as transformers would.

    Raises:
        UsageError: there is text, and the model has no tokenizer.
    """
    from shortstack.checking.encoder import Encoder

    encoder = Encoder(model_dir)
    needs_tokenizer = any(line.text is not None for line in lines)
    if needs_tokenizer and not (model_dir / "tokenizer.json").exists():
        raise UsageError(f"{model_dir} has no tokenizer.json: all lines must have `token_ids`")
    return [EncodedPrompt(line, encoder.encode(line)) for line in lines]


def run_stack(
    config: StackConfig, prompts: Sequence[EncodedPrompt], run_options: RunOptions, console: Console
) -> StackRun:
    """Run all prompts through a local stack, with a bar for each phase."""
    with servable(config.model) as model_dir, StartProgress(console) as progress:
        served = replace(config, model=model_dir)
        advance = progress.add_bar("prompts through the stack", len(prompts))
        return run_command(
            run_through_stack(served, prompts, run_options, progress.observe, advance)
        )


def compare_all(
    prompts: Sequence[EncodedPrompt],
    config: StackConfig,
    run_options: RunOptions,
    run: StackRun,
    near_tie_gap: float,
    console: Console,
) -> list[Difference]:
    """Run the reference on every prompt, and compare; differences are told as they are found."""
    reference = make_reference(config, run_options, run)
    differences = []
    for prompt, completion in zip(
        track(prompts, "prompts through the reference", console=console, transient=True),
        run.completions,
        strict=True,
    ):
        require_same_length(prompt, completion)
        num_tokens = new_tokens_of(prompt, run_options, run.model.max_context_len)
        # The seed in use is the gateway's to say: it draws one where a request has none.
        expected = reference.generate(prompt.token_ids, num_tokens, completion.started.seed)
        difference = compare(completion.token_ids, expected.token_ids, expected.gaps, near_tie_gap)
        differences.append(difference)
        tell(prompt.line, difference, console)
    return differences


def require_same_length(prompt: EncodedPrompt, completion: Completion) -> None:
    """Make sure that the gateway made as many tokens of a prompt as transformers."""
    if completion.started.prompt_len != len(prompt.token_ids):
        raise CommandError(
            f"line {prompt.line.line_number}: the gateway made {completion.started.prompt_len}"
            f" tokens of the prompt, transformers {len(prompt.token_ids)}"
        )


def make_reference(config: StackConfig, run_options: RunOptions, run: StackRun) -> "Reference":
    """Choose and load the reference; torch is imported here, after the stack is gone."""
    from shortstack.checking import reference

    if run_options.sampling.is_plain_argmax and config.dtype == "float32":
        return reference.TransformersReference(config.model)
    return reference.PlainReference(
        config.model,
        run_options.sampling,
        frozenset(run.model.eos_token_ids),
        dtype=config.dtype or "float32",
        device=config.device or "cpu",
        num_threads=config.num_threads or 0,
    )


def tell(line: PromptLine, difference: Difference, console: Console) -> None:
    """Say where a prompt's tokens differ."""
    if difference.outcome is Outcome.EQUAL:
        return
    console.print(
        f"line {line.line_number}: {difference.outcome.value.replace('_', ' ')} at token"
        f" {difference.index}: expected {difference.expected}, got {difference.actual}"
        f" (top-two gap {difference.gap:.3g})"
    )


def make_report(run: StackRun, differences: Sequence[Difference]) -> Report:
    """Sum up a check."""
    total = SpeculationSummary()
    for completion in run.completions:
        total.add(completion.speculation)
    return Report(
        prompts=len(differences),
        tokens=sum(len(completion.token_ids) for completion in run.completions),
        mismatches=count(differences, Outcome.MISMATCH),
        near_ties=count(differences, Outcome.NEAR_TIE),
        acceptance_rate=round(total.acceptance_rate, 4),
        mean_emitted_len=round(total.mean_emitted_len, 4),
    )
