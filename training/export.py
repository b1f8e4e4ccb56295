"""A trained model as a Hugging Face directory, and back.

Knows nothing of training. Writing is atomic: a directory under the final name is complete.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from training.errors import TrainingError
from training.model import Llama, huggingface_config, shape_of_config
from training.tokenizer import end_id_of, tokenizer_files

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def save_model(model: Llama, tokenizer: Tokenizer, out: Path, dtype: str) -> None:
    """Write the model directory `out`, replacing one that is there."""
    end_id = end_id_of(tokenizer)
    config = huggingface_config(model.shape, end_id) | {"dtype": dtype, "torch_dtype": dtype}
    generation = {"bos_token_id": end_id, "eos_token_id": end_id, "pad_token_id": end_id}
    texts = {
        "config.json": json.dumps(config, indent=2) + "\n",
        "generation_config.json": json.dumps(generation, indent=2) + "\n",
        **tokenizer_files(tokenizer),
    }
    weights = {name: value.detach().to(DTYPES[dtype]) for name, value in model.state_dict().items()}
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_texts(partial, texts)
    save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
    (partial / "model.safetensors").chmod(0o644)
    _replace(partial, out)


def _write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _replace(partial: Path, out: Path) -> None:
    """Move the new directory into place; files of the old one that it lacks are kept."""
    if out.exists():
        for path in partial.iterdir():
            os.replace(path, out / path.name)
        partial.rmdir()
    else:
        partial.rename(out)


def rounding_errors(model: Llama) -> dict[str, float]:
    """What each format would lose: root mean square change of the weights, relative to theirs."""
    weights = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    return {
        name: ((weights.to(dtype).float() - weights).norm() / weights.norm()).item()
        for name, dtype in DTYPES.items()
    }


def load_model(folder: Path) -> Llama:
    """Read a model directory into a float32 model.

    Raises:
        TrainingError: a file is missing or damaged, or the weights do not fit the configuration.
    """
    try:
        shape = shape_of_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        weights = load_file(folder / "model.safetensors")
        model = Llama(shape)
        model.load_state_dict(weights)
    except FileNotFoundError as error:
        raise TrainingError(f"{error.filename or error} is missing in model {folder}") from error
    except (ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise TrainingError(f"model {folder} is damaged: {error}") from error
    return model.eval()
