"""The file of exit adapters, beside the model that they were trained for.

    MODEL/exit_adapters/adapters.safetensors      exits.E.down [M, D], exits.E.up [D, M]

Shapes: D hidden, M rank.
"""

from pathlib import Path

from shared.model.exit_adapters import ExitAdapter, ExitAdapters
from shared.model.exit_file import (
    ExitFileKind,
    OpenExitFile,
    find_beside_model,
    read_exit_file,
    tensor_name,
    write_exit_file,
)

FOLDER = "exit_adapters"
FILE_NAME = "adapters.safetensors"
PARTS = ("down", "up")
KIND = ExitFileKind(
    noun="exit adapters",
    folder=FOLDER,
    file_name=FILE_NAME,
    format_version="1",
    setting="SHORTSTACK_MODEL__EXIT_ADAPTERS",
    how_to_train="training/regimes/exit-adapters.yaml",
    without="draft from the raw exits",
)


def write_exit_adapters(adapters: ExitAdapters, model_dir: Path) -> Path:
    """Write the file into a model directory, whole or not at all; return its path.

    Raises:
        OSError: the directory cannot be written to.
    """
    tensors = {
        tensor_name(exit_layer, part): tensor
        for exit_layer, one in adapters.by_exit.items()
        for part, tensor in zip(PARTS, (one.down_MD, one.up_DM), strict=True)
    }
    return write_exit_file(KIND, adapters, {"rank": adapters.rank}, tensors, model_dir)


def find_exit_adapters(
    wish: str, model_dir: Path, hidden_size: int, num_layers: int
) -> ExitAdapters | None:
    """Return the exit adapters that a setting asks for; None: drafts read the raw exits.

    For arguments and faults see `find_beside_model`.
    """
    return find_beside_model(KIND, read_exit_adapters, wish, model_dir, hidden_size, num_layers)


def read_exit_adapters(path: Path) -> ExitAdapters:
    """Read a file and check all that needs no model; tensors come in float32.

    Raises:
        ValueError: says what is wrong; the words continue "exit adapters PATH …".
    """
    return read_exit_file(KIND, path, PARTS, _parse)


def _parse(file: OpenExitFile) -> ExitAdapters:
    rank, hidden_size = file.number("rank"), file.hidden_size
    by_exit = {
        exit_layer: ExitAdapter(
            file.tensor(exit_layer, "down", (rank, hidden_size)),
            file.tensor(exit_layer, "up", (hidden_size, rank)),
        )
        for exit_layer in file.exit_layers
    }
    return ExitAdapters(file.weights_fingerprint, by_exit)
