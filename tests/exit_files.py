"""Damage to files of what was trained for exits: their content, changed and written again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

Content = tuple[dict[str, torch.Tensor], dict[str, str]]
Change = Callable[[Content], None]


def header(**changes: str | None) -> Change:
    """Set fields of the header; None takes one out."""

    def change(content: Content) -> None:
        for name, value in changes.items():
            content[1].pop(name)
            if value is not None:
                content[1][name] = value

    return change


def tensor(name: str, value: Any) -> Change:
    """Set a tensor; None takes it out."""

    def change(content: Content) -> None:
        content[0].pop(name, None)
        if value is not None:
            content[0][name] = value

    return change


def damage(path: Path, change: Change) -> None:
    """Change what a file holds."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        content = (tensors, dict(file.metadata()))
    change(content)
    save_file(content[0], path, content[1])
