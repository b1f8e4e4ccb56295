"""`shortstack bench synth`: write a random Llama model with a chosen early agreement.

    shortstack bench synth --params 126M --agreement 0.8 --at-layer 2 --out DIR

Speed of speculation depends on a model's size and on how often its exit agrees with its end, not on
what it says; this makes any pair of the two without a training run. Imports torch only when run.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from shortstack.bench.shapes import ModelShape, shape_for
from shortstack.bench.words import BOS_ID, EOS_ID, first_word_id, write_tokenizer
from shortstack.errors import UsageError

DTYPES = ("float32", "bfloat16")
MAX_CONTEXT_LEN = 4096
NUM_CHECK_TOKENS = 256


CARD = """# Synthetic Llama, {millions:,.0f}M parameters

**This model is synthetic.** Its weights are random numbers; it knows no language and says nothing.
It serves to measure speed: its exit at layer {at_layer} agrees with its last layer at a chosen
rate.

* Made by `shortstack bench synth` with seed {seed}.
* Agreement at layer {at_layer}: wished {wish}, measured **{agreement:.3f}** over
  {num_check_tokens} tokens of greedy text that the model generated itself, in float32.
* Layers from {at_layer} on are damped by {damping:.4f}.
* {layers} layers, hidden {hidden}, FFN {ffn}, {heads} query and {kv_heads} KV heads of {head_size},
  vocabulary {vocab}: {num_params:,} parameters, stored in {dtype}.
* The output head is a permutation of the embedding, so the text does not loop: at least
  {distinct:.2f} of the {run_len} tokens of a continuation are distinct.
* The end-of-sequence token (id {eos}) has the logit 0, far below that of the best word, and is
  practically never generated: a run ends by its token limit.
* The tokenizer's words are made up; other text is spelt in bytes.

| exit layer | agrees with the last layer |
|---:|---:|
{rates}
"""


@dataclass(frozen=True, slots=True)
class SynthSpec:
    """What is wished for."""

    shape: ModelShape
    agreement: float
    at_layer: int
    seed: int = 0
    dtype: str = "float32"

    def check(self) -> None:
        """Raise ValueError, naming the option, when the wish makes no sense."""
        if not 0 < self.agreement < 1:
            raise ValueError(f"--agreement must lie between 0 and 1, not {self.agreement}")
        if not 1 <= self.at_layer < self.shape.num_layers:
            last = self.shape.num_layers - 1
            raise ValueError(f"--at-layer must lie in [1, {last}], not {self.at_layer}")
        if self.dtype not in DTYPES:
            raise ValueError(f"--dtype must be one of {', '.join(DTYPES)}, not {self.dtype}")


@dataclass(frozen=True, slots=True)
class SynthReport:
    """What came out, measured in float32 on text that the model generated itself.

    agreement_by_exit[e] is the rate of exit e + 1; distinct_ratio is distinct tokens / tokens over
    one continuation, the lowest of all measured.
    """

    spec: SynthSpec
    damping: float
    agreement_by_exit: tuple[float, ...]
    distinct_ratio: float
    num_check_tokens: int

    @property
    def agreement(self) -> float:
        """Measured rate at the chosen layer."""
        return self.agreement_by_exit[self.spec.at_layer - 1]


def write_synthetic_model(
    out: Path, spec: SynthSpec, on_step: Callable[[str], None] = lambda _: None
) -> SynthReport:
    """Write the model directory `out` and return what was measured.

    Raises:
        ValueError: the wish cannot be met, or makes no sense.
    """
    spec.check()
    from shortstack.bench.agreement import PROMPT_LEN, Damper, exit_agreements
    from shortstack.bench.synthetic_model import Recipe, build_model

    words = first_word_id(spec.shape.vocab_size)
    recipe = Recipe(spec.shape, spec.at_layer, words, EOS_ID, spec.seed, MAX_CONTEXT_LEN)
    on_step(f"making {spec.shape.num_params:,} random weights")
    model = build_model(recipe)
    with _half_of_the_threads():
        damper = Damper(model, recipe, on_step)
        text = damper.search(spec.agreement, NUM_CHECK_TOKENS)
        on_step("measuring all exits")
        exits = range(1, spec.shape.num_layers)
        rates = exit_agreements(model, text[:, :-1], exits, start=PROMPT_LEN - 1)
    tokens = text[:, PROMPT_LEN:].tolist()
    report = SynthReport(
        spec,
        damper.damping,
        (*rates, 1.0),
        min(len(set(row)) / len(row) for row in tokens),
        sum(map(len, tokens)),
    )
    on_step(f"writing {out}")
    _write(model, out, report)
    return report


@contextmanager
def _half_of_the_threads() -> Iterator[None]:
    """Compute on half of the threads: on a busy machine waiting for all of them is far slower."""
    import torch

    num_threads = torch.get_num_threads()
    torch.set_num_threads(max(1, num_threads // 2))
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _write(model: Any, out: Path, report: SynthReport) -> None:
    import torch
    from transformers.utils.logging import disable_progress_bar

    out.mkdir(parents=True, exist_ok=True)
    model.generation_config.update(bos_token_id=BOS_ID, eos_token_id=EOS_ID, do_sample=False)
    disable_progress_bar()
    model.to(getattr(torch, report.spec.dtype)).save_pretrained(out)
    write_tokenizer(out, report.spec.shape.vocab_size, MAX_CONTEXT_LEN)
    (out / "README.md").write_text(synthetic_card(report), encoding="utf-8")
    numbers = {
        "agreement_by_exit": report.agreement_by_exit,
        "at_layer": report.spec.at_layer,
        "distinct_ratio": report.distinct_ratio,
        "seed": report.spec.seed,
        "damping": report.damping,
    }
    text = json.dumps(numbers, indent=2) + "\n"
    (out / "synthetic.json").write_text(text, encoding="utf-8")


def synthetic_card(report: SynthReport) -> str:
    """Return the model card: that the model is synthetic, how it was made, what was measured."""
    spec, shape = report.spec, report.spec.shape
    rates = [f"| {index + 1} | {rate:.3f} |" for index, rate in enumerate(report.agreement_by_exit)]
    return CARD.format(
        millions=shape.num_params / 1e6,
        at_layer=spec.at_layer,
        seed=spec.seed,
        wish=spec.agreement,
        agreement=report.agreement,
        num_check_tokens=report.num_check_tokens,
        damping=report.damping,
        layers=shape.num_layers,
        hidden=shape.hidden_size,
        ffn=shape.ffn_size,
        heads=shape.num_heads,
        kv_heads=shape.num_kv_heads,
        head_size=shape.head_size,
        vocab=shape.vocab_size,
        num_params=shape.num_params,
        dtype=spec.dtype,
        distinct=report.distinct_ratio,
        run_len=NUM_CHECK_TOKENS,
        eos=EOS_ID,
        rates="\n".join(rates),
    )


def command(
    out: Annotated[Path, typer.Option(help="directory to write")],
    params: Annotated[
        str, typer.Option(help="size: 42M, 126M, 341M, 1B, 3B or any other")
    ] = "126M",
    agreement: Annotated[float, typer.Option(help="how often the exit agrees with the end")] = 0.8,
    at_layer: Annotated[int, typer.Option(help="exit layer E that agrees so often")] = 2,
    seed: Annotated[int, typer.Option(help="seed of the weights")] = 0,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16")] = "float32",
) -> None:
    """Write a random Llama model whose early exit agrees with its end at a chosen rate."""
    console = Console()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    try:
        spec = SynthSpec(shape_for(params), agreement, at_layer, seed, dtype)
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("starting", total=None)
            report = write_synthetic_model(
                out, spec, lambda text: progress.update(task, description=text)
            )
    except ValueError as error:
        raise UsageError(str(error)) from None
    console.print(
        f"{out}: {spec.shape.num_params:,} parameters, agreement {report.agreement:.3f} at layer "
        f"{at_layer} (wished {agreement}), distinct tokens {report.distinct_ratio:.2f} of "
        f"{NUM_CHECK_TOKENS}"
    )
