"""The file of exit adapters, beside the model that they were trained for.

    MODEL/exit_adapters/adapters.safetensors      exits.E.down [M, D], exits.E.up [D, M]

It lies in a folder of its own: among the weights it would be taken for weights, and change the
model's fingerprint. What it is for stands in its header. Shapes: D hidden, M rank.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from shared.errors import BadModel
from shared.model.exit_adapters import ExitAdapter, ExitAdapters
from shared.model.weights import weights_fingerprint
from shared.speculation.draft_vocab import AUTO
from shared.speculation.vocabulary import OFF

FOLDER = "exit_adapters"
FILE_NAME = "adapters.safetensors"
FORMAT_VERSION = "1"
SETTING = "SHORTSTACK_MODEL__EXIT_ADAPTERS"


def write_exit_adapters(adapters: ExitAdapters, model_dir: Path) -> Path:
    """Write the file into a model directory, whole or not at all; return its path.

    Raises:
        OSError: the directory cannot be written to.
    """
    path = model_dir / FOLDER / FILE_NAME
    path.parent.mkdir(exist_ok=True)
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for exit_layer, one in adapters.by_exit.items()
        for name, tensor in zip(_names(exit_layer), (one.down_MD, one.up_DM), strict=True)
    }
    header = {
        "format_version": FORMAT_VERSION,
        "rank": str(adapters.rank),
        "hidden_size": str(adapters.hidden_size),
        "exit_layers": " ".join(map(str, adapters.exit_layers)),
        "weights_fingerprint": adapters.weights_fingerprint,
    }
    unfinished = path.with_suffix(".unfinished")
    save_file(tensors, unfinished, header)
    os.replace(unfinished, path)
    return path


def _names(exit_layer: int) -> tuple[str, str]:
    return f"exits.{exit_layer}.down", f"exits.{exit_layer}.up"


def find_exit_adapters(
    wish: str, model_dir: Path, hidden_size: int, num_layers: int
) -> ExitAdapters | None:
    """Return the exit adapters that a setting asks for; None: drafts read the raw exits.

    Args:
        wish: `auto` (those in the model directory, if it has some), `off`, or the path of a file
            or of the folder that holds it.
        model_dir: the model's directory.
        hidden_size: D of the model.
        num_layers: L of the model.

    Raises:
        BadModel: the file is missing, damaged, or was made for another model; says how to mend.
    """
    if wish == OFF:
        return None
    path = model_dir / FOLDER / FILE_NAME if wish == AUTO else Path(wish)
    if path.is_dir():
        path = path / FILE_NAME
    if wish == AUTO and not path.exists():
        return None
    try:
        found = read_exit_adapters(path)
        _check_model(found, model_dir, hidden_size, num_layers)
    except (OSError, ValueError) as error:
        raise BadModel(
            f"exit adapters {path} {error}; take those that were trained for {model_dir}, train "
            f"them anew (training/regimes/exit-adapters.yaml), or draft from the raw exits with "
            f"{SETTING}={OFF}"
        ) from None
    return found


def read_exit_adapters(path: Path) -> ExitAdapters:
    """Read a file and check all that needs no model; tensors come in float32.

    Raises:
        ValueError: says what is wrong; the words continue "exit adapters PATH …".
    """
    if not path.is_file():
        raise ValueError("are not there")
    try:
        with safe_open(path, framework="pt") as file:
            return _parse(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"cannot be read: {' '.join(str(error).split())}") from None


def _parse(file: Any) -> ExitAdapters:
    fields = file.metadata() or {}
    version = fields.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"have format version {version!r}, this release reads {FORMAT_VERSION!r}")
    rank, hidden_size = _number(fields, "rank"), _number(fields, "hidden_size")
    exit_layers = _exit_layers(fields)
    expected = {name for exit_layer in exit_layers for name in _names(exit_layer)}
    if set(file.keys()) != expected:
        raise ValueError("hold other tensors than their `exit_layers` name")
    by_exit = {}
    for exit_layer in exit_layers:
        down, up = _names(exit_layer)
        by_exit[exit_layer] = ExitAdapter(
            _tensor(file, down, (rank, hidden_size)), _tensor(file, up, (hidden_size, rank))
        )
    return ExitAdapters(fields.get("weights_fingerprint", ""), by_exit)


def _number(fields: Mapping[str, str], name: str) -> int:
    value = fields.get(name, "")
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"have no sound `{name}`")
    return int(value)


def _exit_layers(fields: Mapping[str, str]) -> list[int]:
    words = fields.get("exit_layers", "").split()
    if not words or not all(word.isdecimal() for word in words):
        raise ValueError("have no sound `exit_layers`")
    exit_layers = [int(word) for word in words]
    if exit_layers != sorted(set(exit_layers)):
        raise ValueError("have `exit_layers` that do not ascend")
    return exit_layers


def _tensor(file: Any, name: str, shape: tuple[int, int]) -> torch.Tensor:
    tensor: torch.Tensor = file.get_tensor(name)
    if tuple(tensor.shape) != shape or not tensor.dtype.is_floating_point:
        raise ValueError(f"have {name} as {tensor.dtype} {list(tensor.shape)}, not {list(shape)}")
    # A copy: a tensor kept as it was read would keep the file mapped.
    copied = tensor.to(torch.float32, copy=True)
    if not torch.isfinite(copied).all():
        raise ValueError(f"have values in {name} that are no numbers")
    return copied


def _check_model(
    adapters: ExitAdapters, model_dir: Path, hidden_size: int, num_layers: int
) -> None:
    if adapters.hidden_size != hidden_size:
        raise ValueError(
            f"are for a hidden size of {adapters.hidden_size}, the model has {hidden_size}"
        )
    first, last = adapters.exit_layers[0], adapters.exit_layers[-1]
    if first < 1 or last >= num_layers:
        raise ValueError(
            f"are for exits in [{first}, {last}], the model's lie in [1, {num_layers - 1}]"
        )
    if adapters.weights_fingerprint != weights_fingerprint(model_dir):
        raise ValueError("were trained for other weights than the model's")
