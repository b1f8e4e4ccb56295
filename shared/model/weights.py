"""Tensors by name out of the safetensors of a Hugging Face directory, one file or many shards.

Files are memory-mapped: a tensor costs memory of its own only once it is cast, fused or packed, and
two processes that read the same file share its pages.
"""

import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from shared.errors import BadModel

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"


class Weights:
    """Open weight files; a context manager.

    Raises:
        BadModel: a file is missing or corrupt, or the index and the files disagree; names them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, Any] = {}
        self._file_of = _locate_tensors(path)
        for name in sorted(set(self._file_of.values())):
            self._files[name] = _open_file(path / name)
        self._check_index()

    def __enter__(self) -> "Weights":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.clear()

    def _check_index(self) -> None:
        names = {name: set(handle.keys()) for name, handle in self._files.items()}
        for tensor, file in self._file_of.items():
            if tensor not in names[file]:
                raise BadModel(f"{self._path / file}: tensor {tensor} is missing from this shard")

    def has(self, name: str) -> bool:
        """Say whether there is a tensor of this name."""
        return name in self._file_of

    def read(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return a tensor, checked and cast.

        Raises:
            BadModel: it is missing, unreadable, or of another shape.
        """
        if name not in self._file_of:
            raise BadModel(f"{self._path}: tensor {name} is missing from the weight files")
        file = self._file_of[name]
        try:
            tensor: torch.Tensor = self._files[file].get_tensor(name)
        except (SafetensorError, ValueError, RuntimeError) as error:
            raise BadModel(f"{self._path / file}: tensor {name} is unreadable: {error}") from None
        if tuple(tensor.shape) != shape:
            raise BadModel(
                f"{self._path / file}: tensor {name} has shape {list(tensor.shape)}, "
                f"config.json asks for {list(shape)}"
            )
        if not tensor.dtype.is_floating_point:
            raise BadModel(f"{self._path / file}: tensor {name} is {tensor.dtype}, not a float")
        return tensor.to(dtype)


def _locate_tensors(path: Path) -> dict[str, str]:
    """Return the file of every tensor."""
    index = path / INDEX_FILE
    if index.exists():
        try:
            file_of = json.loads(index.read_text())["weight_map"]
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise BadModel(f"{index} is corrupt: {error!r}") from None
        if not isinstance(file_of, dict) or not all(isinstance(f, str) for f in file_of.values()):
            raise BadModel(f"{index} is corrupt: weight_map must be an object of file names")
        for file in sorted(set(file_of.values())):
            if not (path / file).exists():
                raise BadModel(f"{path / file}: this shard is named by {INDEX_FILE} but missing")
        return file_of
    if not (path / SINGLE_FILE).exists():
        raise BadModel(f"{path}: neither {SINGLE_FILE} nor {INDEX_FILE} found")
    return dict.fromkeys(_open_file(path / SINGLE_FILE).keys(), SINGLE_FILE)


def _open_file(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt", device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise BadModel(f"{file} is corrupt or truncated: {error}") from None


def weights_fingerprint(path: Path) -> str:
    """Return a hash of a model directory's weight files, whatever type they are served in."""
    digest = hashlib.sha256()
    for file in sorted(path.glob("*.safetensors")):
        digest.update(sample_bytes(file))
    return digest.hexdigest()[:32]


def sample_bytes(file: Path, num_samples: int = 64, sample_len: int = 4096) -> bytes:
    """Return what a weight file is told from others by: size, header and samples of the data.

    Reading gigabytes twice at every start would cost more than it guards against.
    """
    size = file.stat().st_size
    parts = [str(size).encode()]
    with file.open("rb") as stream:
        parts.append(stream.read(65536))
        for index in range(num_samples):
            stream.seek(size * index // num_samples)
            parts.append(stream.read(sample_len))
    return b"".join(parts)
