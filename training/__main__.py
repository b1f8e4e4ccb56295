"""The training commands as a module, for launchers of many processes.

torchrun --nproc-per-node 8 -m training layerskip --config FILE --data DIR --out DIR
python -m training card --run DIR
"""

import typer

from training.commands import acceptance, card, kangaroo, layerskip

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__
)
app.command()(layerskip)
app.command()(kangaroo)
app.command()(acceptance)
app.command()(card)

if __name__ == "__main__":
    app()
