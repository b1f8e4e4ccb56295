"""The file of acceptance heads, beside the model that they were trained for.

    MODEL/acceptance_heads/heads.safetensors
        exits.E.down [M, F], exits.E.bias [M], exits.E.up [M], exits.E.scale [], exits.E.offset []

Of any floating type; heads run in float32. Shapes: F = 3 D + 1 features, D hidden, M width.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from shared.model.acceptance_heads import AcceptanceHead, AcceptanceHeads, num_features
from shared.model.exit_file import (
    ExitFileKind,
    OpenExitFile,
    find_beside_model,
    read_exit_file,
    tensor_name,
    write_exit_file,
)

FOLDER = "acceptance_heads"
FILE_NAME = "heads.safetensors"
PARTS = ("down", "bias", "up", "scale", "offset")
KIND = ExitFileKind(
    noun="acceptance heads",
    folder=FOLDER,
    file_name=FILE_NAME,
    format_version="2",
    setting="SHORTSTACK_MODEL__ACCEPTANCE_HEADS",
    how_to_train="`shortstack train acceptance`",
    without="go by gaps alone",
)


def parts_of(head: AcceptanceHead) -> Sequence[torch.Tensor]:
    """Return a head's tensors in the order of PARTS."""
    return head.down_MF, head.bias_M, head.up_M, head.scale, head.offset


def write_acceptance_heads(
    heads: AcceptanceHeads, model_dir: Path, dtype_name: str = "float32"
) -> Path:
    """Write the file into a model directory, whole or not at all; return its path.

    dtype_name: element type of the file.

    Raises:
        OSError: the directory cannot be written to.
    """
    dtype: torch.dtype = getattr(torch, dtype_name)
    tensors = {
        tensor_name(exit_layer, part): tensor.to(dtype)
        for exit_layer, one in heads.by_exit.items()
        for part, tensor in zip(PARTS, parts_of(one), strict=True)
    }
    return write_exit_file(KIND, heads, {"width": heads.width}, tensors, model_dir)


def find_acceptance_heads(
    wish: str, model_dir: Path, hidden_size: int, num_layers: int
) -> AcceptanceHeads | None:
    """Return the acceptance heads that a setting asks for; None: gaps alone tell of acceptance.

    For arguments and faults see `find_beside_model`.
    """
    return find_beside_model(KIND, read_acceptance_heads, wish, model_dir, hidden_size, num_layers)


def read_acceptance_heads(path: Path) -> AcceptanceHeads:
    """Read a file and check all that needs no model; tensors come in float32.

    Raises:
        ValueError: says what is wrong; the words continue "acceptance heads PATH …".
    """
    return read_exit_file(KIND, path, PARTS, _parse)


def _parse(file: OpenExitFile) -> AcceptanceHeads:
    width = file.number("width")
    shapes = ((width, num_features(file.hidden_size)), (width,), (width,), (), ())
    by_exit = {
        exit_layer: AcceptanceHead(
            *(
                file.tensor(exit_layer, part, shape)
                for part, shape in zip(PARTS, shapes, strict=True)
            )
        )
        for exit_layer in file.exit_layers
    }
    return AcceptanceHeads(file.weights_fingerprint, by_exit)
