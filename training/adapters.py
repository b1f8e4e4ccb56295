"""Exit adapters in training: what is trained where the model itself must stay as it is.

    x'_E = x_E + up_E (down_E x_E)      then the model's own final norm and head

Every weight of the model is frozen; per exit E a map of low rank is trained, which drafts read the
exit through when it is served (see `shared.model.exit_adapters`). Low-rank tuned lenses: Belrose et
al. 2023, arXiv:2303.08112. Shapes: R rows, D hidden, M rank.
"""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.model.exit_adapter_file import write_exit_adapters
from shared.model.exit_adapters import ExitAdapter, ExitAdapters
from shared.model.weights import weights_fingerprint
from training.errors import TrainingError
from training.sections import ExitAdaptersSection

ATTRIBUTE = "exit_adapters"
CARD = "README.md"


class TrainableAdapter(nn.Module):
    """The map of one exit. It begins as the identity, since `up` begins as zero."""

    def __init__(self, hidden_size: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, hidden_size))
        self.up = nn.Parameter(torch.zeros(hidden_size, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5), generator=generator)

    def forward(self, states_RD: Tensor) -> Tensor:
        """x' [R, D]."""
        return states_RD + F.linear(F.linear(states_RD, self.down), self.up)


class TrainableAdapters(nn.ModuleDict):
    """The adapters of a model, by exit layer E."""

    def __init__(self, exits: Sequence[int], hidden_size: int, rank: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        super().__init__(
            {
                str(exit_layer): TrainableAdapter(hidden_size, rank, generator)
                for exit_layer in exits
            }
        )

    def read(self, states_RD: Tensor, exit_layer: int) -> Tensor:
        """x' of an exit's states; the states themselves where the exit has no adapter."""
        name = str(exit_layer)
        adapted_RD: Tensor = self[name](states_RD) if name in self else states_RD
        return adapted_RD

    def zero(self) -> Tensor:
        """Nothing, with a gradient: the loss of a step whose curriculum enables no adapter."""
        return torch.stack([weight.sum() for weight in self.parameters()]).sum() * 0.0

    def to_file(self, model_dir: Path) -> None:
        """Write them beside the weights in model_dir, which are those they were trained for."""
        adapters = {int(name): ExitAdapter(one.down, one.up) for name, one in self.items()}
        write_exit_adapters(ExitAdapters(weights_fingerprint(model_dir), adapters), model_dir)


def adapters_of(model: nn.Module) -> TrainableAdapters | None:
    """The adapters that a model is trained with."""
    return getattr(model, ATTRIBUTE, None)


def with_exit_adapters(model: Any, section: ExitAdaptersSection, seed: int) -> Any:
    """Freeze the model and add adapters; they are all that is trained and kept in checkpoints.

    Raises:
        TrainingError: the model lacks one of the exits.
    """
    num_layers = model.config.num_hidden_layers
    exits = sorted(section.exits or range(2, num_layers))
    if not exits or exits[-1] >= num_layers:
        raise TrainingError(
            f"exit_adapters.exits: a model of {num_layers} layers has no exit"
            f" {exits[-1] if exits else 2} to train; its exits end at {num_layers - 1}"
        )
    model.requires_grad_(False)
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            # What the exits learn from is the model as it is served.
            module.attention_dropout = 0.0
    model._keys_to_ignore_on_save = set(model.state_dict())
    adapters = TrainableAdapters(exits, model.config.hidden_size, section.rank, seed)
    setattr(model, ATTRIBUTE, adapters)
    return model


def check_source(path: str) -> Path:
    """The directory of the model that stays as it is.

    Raises:
        TrainingError: it is none, or has no weights that could be served.
    """
    source = Path(path)
    if not source.is_dir() or not list(source.glob("*.safetensors")):
        raise TrainingError(
            f"model.path {path} must be a directory with *.safetensors, the files of a model that"
            " stays as it is"
        )
    return source


def copy_model(source: Path, folder: Path) -> None:
    """Copy a model's files, bit for bit; its card, which tells of another run, stays behind."""
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name != CARD:
            shutil.copyfile(path, folder / path.name)
