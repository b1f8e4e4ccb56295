"""The files of draft adapters, beside the model that they were trained for.

    MODEL/draft_adapters/exit-2/draft_adapter.safetensors     norm_in, wq, wk, wv, wo, norm_out
    MODEL/draft_adapters/exit-2/draft_adapter.json            what it was trained for, and on

The head, the rotation and every layer are the model's, so an adapter is good for one model and one
exit only. Whoever loads it checks that.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from shared.errors import BadModel
from shared.model.draft_adapter_weights import DraftAdapterWeights, HeadLayout
from shared.model.weights import weights_fingerprint
from shared.speculation.draft_vocab import AUTO
from shared.speculation.vocabulary import OFF

FOLDER = "draft_adapters"
TENSORS_NAME = "draft_adapter.safetensors"
CARD_NAME = "draft_adapter.json"
FORMAT_VERSION = 1
SETTING = "SHORTSTACK_MODEL__DRAFT_ADAPTERS"


@dataclass(frozen=True)
class AdapterHost:
    """What of a model its adapters depend on.

    rope: parameters of the rotation as the configuration has them.
    """

    path: Path
    num_layers: int
    layout: HeadLayout
    rope: Mapping[str, Any]


@dataclass(frozen=True)
class AdapterOrigin:
    """Where an adapter came from: the words of its data, and the optimiser steps of its run."""

    data: str
    num_steps: int


def rope_of(hf_config: Any) -> dict[str, Any]:
    """Return the rotation's parameters of a configuration, as a JSON object would have them."""
    parameters = getattr(hf_config, "rope_parameters", None) or {}
    named = {"rope_type": "default", "rope_theta": 10_000.0} | dict(parameters)
    plain: dict[str, Any] = json.loads(json.dumps(named))
    return plain


# --- writing --------------------------------------------------------------------------------------


def write_draft_adapter(
    adapter: DraftAdapterWeights, host: AdapterHost, origin: AdapterOrigin, folder: Path
) -> Path:
    """Write an adapter below a folder of adapters, whole or not at all; return its own folder.

    Raises:
        OSError: the folder cannot be written to.
    """
    own = folder / f"exit-{adapter.exit_layer}"
    own.mkdir(parents=True, exist_ok=True)
    tensors = {name: each.detach().cpu().contiguous() for name, each in adapter.tensors.items()}
    unfinished = own / f"{TENSORS_NAME}.unfinished"
    save_file(tensors, unfinished)
    # It is saved for its owner alone, and workers in containers are others.
    unfinished.chmod(0o644)
    card = {
        "format_version": FORMAT_VERSION,
        "exit_layer": adapter.exit_layer,
        **asdict(adapter.layout),
        "rms_eps": adapter.rms_eps,
        "rope": dict(host.rope),
        "weights_fingerprint": weights_fingerprint(host.path),
        "tensors_sha256": hashlib.sha256(unfinished.read_bytes()).hexdigest(),
        **asdict(origin),
    }
    os.replace(unfinished, own / TENSORS_NAME)
    # A stop in between leaves a card that does not know its tensors, which is told when it is read.
    unfinished_card = own / f"{CARD_NAME}.unfinished"
    unfinished_card.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished_card, own / CARD_NAME)
    return own


# --- reading --------------------------------------------------------------------------------------


def find_draft_adapters(wish: str, host: AdapterHost) -> tuple[DraftAdapterWeights, ...]:
    """Return the draft adapters that a setting asks for, shallow first.

    Args:
        wish: `auto` (those in the model directory, if any), `off`, or a path: a folder of adapters,
            the folder of one, or its tensor file.
        host: the model that they are to serve.

    Raises:
        BadModel: one is missing, damaged, or was made for another model; says how to mend.
    """
    if wish == OFF:
        return ()
    path = host.path / FOLDER if wish == AUTO else Path(wish)
    if wish == AUTO and not path.exists():
        return ()
    found = [_find_one(each, host) for each in _folders(path)]
    by_exit = {each.exit_layer: each for each in found}
    if len(by_exit) < len(found):
        raise BadModel(f"{path} holds two draft adapters of one exit layer; remove one of them")
    return tuple(by_exit[exit_layer] for exit_layer in sorted(by_exit))


def _folders(path: Path) -> Sequence[Path]:
    """Return the folders of the adapters that a path names."""
    if path.is_file():
        return [path.parent]
    if (path / TENSORS_NAME).exists() or (path / CARD_NAME).exists():
        return [path]
    folders = sorted({file.parent for file in path.glob(f"*/{CARD_NAME}")})
    if not folders:
        raise BadModel(
            f"{path} holds no draft adapter ({CARD_NAME} and {TENSORS_NAME}); train one with "
            f"`shortstack train kangaroo`, or go without: {SETTING}={OFF}"
        )
    return folders


def _find_one(folder: Path, host: AdapterHost) -> DraftAdapterWeights:
    try:
        card = _read_card(folder / CARD_NAME)
        adapter = _read_adapter(folder, card)
        _check_model(adapter, card, host)
    except (OSError, ValueError) as error:
        raise BadModel(
            f"draft adapter {folder} {error}; take one that was trained for {host.path}, train it "
            f"anew (`shortstack train kangaroo`), or go without: {SETTING}={OFF}"
        ) from None
    return adapter


def _read_card(file: Path) -> dict[str, Any]:
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"lacks its {file.name}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"has a {file.name} that cannot be read: {error}") from None
    if not isinstance(card, dict):
        raise ValueError(f"has a {file.name} that is no object")
    version = card.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"has format version {version!r}, this release reads {FORMAT_VERSION}")
    return card


def _read_adapter(folder: Path, card: Mapping[str, Any]) -> DraftAdapterWeights:
    names = ("hidden_size", "num_heads", "num_kv_heads", "head_size")
    layout = HeadLayout(*(_count(card, name) for name in names))
    rms_eps = card.get("rms_eps")
    if not isinstance(rms_eps, float) or not 0 < rms_eps < 1:
        raise ValueError("has no sound `rms_eps`")
    file = folder / TENSORS_NAME
    if not file.is_file():
        raise ValueError(f"lacks its {TENSORS_NAME}")
    digest = hashlib.sha256(file.read_bytes())
    if digest.hexdigest() != card.get("tensors_sha256"):
        raise ValueError(f"has a {TENSORS_NAME} that its {CARD_NAME} was not written for")
    tensors = _read_tensors(file, layout.shapes())
    digest.update((folder / CARD_NAME).read_bytes())
    return DraftAdapterWeights(
        _count(card, "exit_layer"), layout, rms_eps, tensors, digest.hexdigest()[:32]
    )


def _count(card: Mapping[str, Any], name: str) -> int:
    value = card.get(name)
    if type(value) is not int or value < 1:
        raise ValueError(f"has no sound `{name}`")
    return value


def _read_tensors(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    try:
        with safe_open(file, framework="pt") as opened:
            if set(opened.keys()) != set(shapes):
                raise ValueError(f"holds other tensors than {', '.join(shapes)}")
            return {name: _sound(name, opened.get_tensor(name), shapes[name]) for name in shapes}
    except SafetensorError as error:
        raise ValueError(f"cannot be read: {' '.join(str(error).split())}") from None


def _sound(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    if tuple(tensor.shape) != shape or not tensor.dtype.is_floating_point:
        raise ValueError(f"has {name} as {tensor.dtype} {list(tensor.shape)}, not {list(shape)}")
    # A copy: a tensor kept as it was read would keep the file mapped.
    copied = tensor.to(torch.float32, copy=True)
    if not torch.isfinite(copied).all():
        raise ValueError(f"has values in {name} that are no numbers")
    return copied


def _check_model(adapter: DraftAdapterWeights, card: Mapping[str, Any], host: AdapterHost) -> None:
    if adapter.layout != host.layout:
        raise ValueError(f"is for heads {adapter.layout}, the model has {host.layout}")
    if adapter.exit_layer >= host.num_layers:
        raise ValueError(
            f"is for exit layer {adapter.exit_layer}, the model's lie in [1, {host.num_layers - 1}]"
        )
    if card.get("rope") != host.rope:
        raise ValueError("was trained with another rotary embedding than the model's")
    if card.get("weights_fingerprint") != weights_fingerprint(host.path):
        raise ValueError("was trained for other weights than the model's")
