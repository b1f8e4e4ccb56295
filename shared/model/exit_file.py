"""Files of what was trained for the exits of one model, beside that model.

    MODEL/FOLDER/FILE      tensors exits.E.PART for every exit layer E that the file is for

It lies in a folder of its own: among the weights it would be taken for weights, and change the
model's fingerprint. What it is for stands in its header: format version, sizes, exit layers and the
fingerprint of the weights. Knows no kind of them; see `exit_adapter_file` and
`acceptance_head_file`. All faults are ValueErrors whose words continue "NOUN PATH …".
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from shared.errors import BadModel
from shared.model.weights import weights_fingerprint
from shared.speculation.draft_vocab import AUTO
from shared.speculation.vocabulary import OFF


class TrainedForExits(Protocol):
    """What every kind says of itself, in its header and against its model."""

    @property
    def weights_fingerprint(self) -> str:
        """Of the weights that it was trained for."""

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """Exits that it has a part for, ascending."""

    @property
    def hidden_size(self) -> int:
        """D."""


TrainedT = TypeVar("TrainedT", bound=TrainedForExits)


@dataclass(frozen=True)
class ExitFileKind:
    """One kind of file.

    noun: in the plural, for errors; how_to_train, without: the ways out that an error names.
    """

    noun: str
    folder: str
    file_name: str
    format_version: str
    setting: str
    how_to_train: str
    without: str

    def path_in(self, model_dir: Path) -> Path:
        """Where the file lies beside a model."""
        return model_dir / self.folder / self.file_name


def tensor_name(exit_layer: int, part: str) -> str:
    """Return the name of a tensor in the file."""
    return f"exits.{exit_layer}.{part}"


def write_exit_file(
    kind: ExitFileKind,
    trained: TrainedForExits,
    sizes: Mapping[str, int],
    tensors: Mapping[str, torch.Tensor],
    model_dir: Path,
) -> Path:
    """Write a file into a model directory, whole or not at all; return its path.

    Args:
        kind: of the file.
        trained: what its header is taken from.
        sizes: what the header says of the tensors' sizes beside the hidden size.
        tensors: by the names of `tensor_name`.
        model_dir: the model's directory, or another that is to hold the folder.

    Raises:
        OSError: the directory cannot be written to.
    """
    path = kind.path_in(model_dir)
    path.parent.mkdir(exist_ok=True)
    header = {
        "format_version": kind.format_version,
        **{name: str(size) for name, size in sizes.items()},
        "hidden_size": str(trained.hidden_size),
        "exit_layers": " ".join(map(str, trained.exit_layers)),
        "weights_fingerprint": trained.weights_fingerprint,
    }
    unfinished = path.with_suffix(".unfinished")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, unfinished, header)
    # It is saved for its owner alone, and workers in containers are others.
    unfinished.chmod(0o644)
    os.replace(unfinished, path)
    return path


def find_beside_model(
    kind: ExitFileKind,
    read: Callable[[Path], TrainedT],
    wish: str,
    model_dir: Path,
    hidden_size: int,
    num_layers: int,
) -> TrainedT | None:
    """Return what a setting asks for; None: nothing.

    Args:
        kind: of the file.
        read: reads it.
        wish: `auto` (the file in the model directory, if there), `off`, or the path of a file or
            of the folder that holds it.
        model_dir: the model's directory.
        hidden_size: D of the model.
        num_layers: L of the model.

    Raises:
        BadModel: the file is missing, damaged, or was made for another model; says how to mend.
    """
    if wish == OFF:
        return None
    path = kind.path_in(model_dir) if wish == AUTO else Path(wish)
    if path.is_dir():
        path = path / kind.file_name
    if wish == AUTO and not path.exists():
        return None
    try:
        found = read(path)
        _check_model(found, model_dir, hidden_size, num_layers)
    except (OSError, ValueError) as error:
        raise BadModel(
            f"{kind.noun} {path} {error}; take those that were trained for {model_dir}, train "
            f"them anew ({kind.how_to_train}), or {kind.without} with {kind.setting}={OFF}"
        ) from None
    return found


def _check_model(
    trained: TrainedForExits, model_dir: Path, hidden_size: int, num_layers: int
) -> None:
    if trained.hidden_size != hidden_size:
        raise ValueError(
            f"are for a hidden size of {trained.hidden_size}, the model has {hidden_size}"
        )
    first, last = trained.exit_layers[0], trained.exit_layers[-1]
    if first < 1 or last >= num_layers:
        raise ValueError(
            f"are for exits in [{first}, {last}], the model's lie in [1, {num_layers - 1}]"
        )
    if trained.weights_fingerprint != weights_fingerprint(model_dir):
        raise ValueError("were trained for other weights than the model's")


# --- reading --------------------------------------------------------------------------------------


class OpenExitFile:
    """Header and tensors of an open file; each look at them checks what it sees."""

    def __init__(self, kind: ExitFileKind, file: Any, parts: Sequence[str]) -> None:
        self._file = file
        self._fields: Mapping[str, str] = file.metadata() or {}
        version = self._fields.get("format_version")
        if version != kind.format_version:
            raise ValueError(
                f"have format version {version!r}, this release reads {kind.format_version!r}"
            )
        self.hidden_size = self.number("hidden_size")
        self.exit_layers = self._exit_layers()
        expected = {tensor_name(each, part) for each in self.exit_layers for part in parts}
        if set(file.keys()) != expected:
            raise ValueError("hold other tensors than their `exit_layers` name")

    @property
    def weights_fingerprint(self) -> str:
        """Of the weights that the file was made for; empty where the header has none."""
        return self._fields.get("weights_fingerprint", "")

    def number(self, name: str) -> int:
        """Return a size out of the header, at least 1."""
        value = self._fields.get(name, "")
        if not value.isdecimal() or int(value) < 1:
            raise ValueError(f"have no sound `{name}`")
        return int(value)

    def _exit_layers(self) -> tuple[int, ...]:
        words = self._fields.get("exit_layers", "").split()
        if not words or not all(word.isdecimal() for word in words):
            raise ValueError("have no sound `exit_layers`")
        exit_layers = [int(word) for word in words]
        if exit_layers != sorted(set(exit_layers)):
            raise ValueError("have `exit_layers` that do not ascend")
        return tuple(exit_layers)

    def tensor(self, exit_layer: int, part: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a tensor of an exit in float32."""
        name = tensor_name(exit_layer, part)
        tensor: torch.Tensor = self._file.get_tensor(name)
        if tuple(tensor.shape) != shape or not tensor.dtype.is_floating_point:
            raise ValueError(
                f"have {name} as {tensor.dtype} {list(tensor.shape)}, not {list(shape)}"
            )
        # A copy: a tensor kept as it was read would keep the file mapped.
        copied = tensor.to(torch.float32, copy=True)
        if not torch.isfinite(copied).all():
            raise ValueError(f"have values in {name} that are no numbers")
        return copied


ParsedT = TypeVar("ParsedT")


def read_exit_file(
    kind: ExitFileKind, path: Path, parts: Sequence[str], parse: Callable[[OpenExitFile], ParsedT]
) -> ParsedT:
    """Read a file and check all that needs no model.

    Args:
        kind: of the file.
        path: the file.
        parts: names of an exit's tensors.
        parse: makes of it what it holds.

    Raises:
        ValueError: says what is wrong.
    """
    if not path.is_file():
        raise ValueError("are not there")
    try:
        with safe_open(path, framework="pt") as file:
            return parse(OpenExitFile(kind, file, parts))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"cannot be read: {' '.join(str(error).split())}") from None
