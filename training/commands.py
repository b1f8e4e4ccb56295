"""`shortstack train`: arguments in, a trained model directory out.

Knows nothing of how a run works.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from training.errors import one_line_errors

ConfigFile = Annotated[Path, typer.Option(help="YAML file of the run; see training/regimes.")]
DataDir = Annotated[Path | None, typer.Option(help="Directory of the texts.")]
OutDir = Annotated[Path, typer.Option(help="Directory of checkpoints, logs, report and model.")]


def layerskip(
    config: ConfigFile,
    out: OutDir,
    data: DataDir = None,
    resume: Annotated[bool, typer.Option(help="Go on from OUT's last checkpoint.")] = False,
    num_threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: as torch has it.")] = 0,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.name=value, over what the file says.")
    ] = None,
) -> None:
    """Train a model so that its early exits are fit to draft (LayerSkip)."""
    import torch

    from training.card import write_card
    from training.layerskip import train
    from training.progress import quality_table

    if num_threads:
        torch.set_num_threads(num_threads)
    console = Console()
    with one_line_errors():
        finished = train(config, data, out, overrides or [], resume, console)
    if not finished.is_first_process:
        return
    card_path = write_card(out)
    if finished.quality is not None:
        console.print(quality_table(finished.quality))
        for warning in finished.quality.warnings:
            console.print(f"warning: {warning}", style="bold", soft_wrap=True)
    console.print(f"model and card: {card_path.parent}", soft_wrap=True)


def kangaroo(
    config: ConfigFile,
    out: OutDir,
    data: DataDir = None,
    beside_model: Annotated[
        bool,
        typer.Option(help="Copy the adapters beside the model, for workers to find."),
    ] = False,
    resume: Annotated[bool, typer.Option(help="Go on from OUT's last checkpoint.")] = False,
    num_threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: as torch has it.")] = 0,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.name=value, over what the file says.")
    ] = None,
) -> None:
    """Train draft adapters beside a model that stays as it is (Kangaroo)."""
    import torch

    from shared.model.draft_adapter_file import SETTING
    from training.config import KangarooRun, read_config
    from training.kangaroo.run import install, train

    if num_threads:
        torch.set_num_threads(num_threads)
    console = Console()
    with one_line_errors():
        folder = train(config, data, out, overrides or [], resume, console)
        if folder is None:
            return
        model_dir = Path(str(read_config(config, overrides or [], KangarooRun).model.path))
        found = install(folder, model_dir) if beside_model else folder
    hint = "workers of this model find them" if beside_model else f"serve with {SETTING}={found}"
    console.print(f"draft adapters and card: {found}; {hint}", soft_wrap=True)


def acceptance(
    config: ConfigFile,
    out: OutDir,
    data: DataDir = None,
    beside_model: Annotated[
        bool,
        typer.Option(help="Copy the heads beside the model, for workers to find."),
    ] = False,
    resume: Annotated[bool, typer.Option(help="Go on from OUT's last checkpoint.")] = False,
    num_threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: as torch has it.")] = 0,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.name=value, over what the file says.")
    ] = None,
) -> None:
    """Train acceptance heads beside a model that stays as it is."""
    import torch

    from shared.model.acceptance_head_file import KIND
    from training.acceptance.run import install, train
    from training.config import AcceptanceRun, read_config

    if num_threads:
        torch.set_num_threads(num_threads)
    console = Console()
    with one_line_errors():
        folder = train(config, data, out, overrides or [], resume, console)
        if folder is None:
            return
        model_dir = Path(str(read_config(config, overrides or [], AcceptanceRun).model.path))
        found = install(folder, model_dir) if beside_model else folder
    hint = (
        "workers of this model find them" if beside_model else f"serve with {KIND.setting}={found}"
    )
    console.print(f"acceptance heads and card: {found}; {hint}", soft_wrap=True)


def card(
    run: Annotated[Path, typer.Option(help="Directory of a finished run.")],
    comparison: Annotated[
        Path | None, typer.Option(help="JSON of bench.exit_training: with and without recipe.")
    ] = None,
    machine: Annotated[str, typer.Option(help="What it was trained on, in words.")] = "",
) -> None:
    """Write the model card of a finished run anew."""
    from training.card import write_card

    with one_line_errors():
        print(write_card(run, comparison, machine))
