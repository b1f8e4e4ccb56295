"""What the benches of control share of their command lines. Loads no torch."""

from pathlib import Path
from typing import Annotated

import typer

import shortstack
from shortstack.bench.control.contenders import NAMES, OFF_NAME
from shortstack.errors import UsageError

MaxPromptLen = Annotated[
    int, typer.Option(min=0, help="Tokens kept of each prompt, from its start; 0: all.")
]
DEFAULT_EXITS = "2,3,4,6"
DEMO_PROMPTS = Path(shortstack.__file__).resolve().parent / "prompts" / "demo.jsonl"


def default_prompts() -> list[Path]:
    """Return the prompts that come with the package: one of each kind."""
    return [DEMO_PROMPTS]


def parse_names(text: str) -> tuple[str, ...]:
    """Read contenders by comma; plain decoding takes part in any case.

    Raises:
        UsageError: one of them is not known; names those that are.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    if unknown := [name for name in names if name not in NAMES]:
        raise UsageError(f"--policies: {unknown[0]} is none of {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in {*names, OFF_NAME})
