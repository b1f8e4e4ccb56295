"""The model and the tokenizer of a run, as Hugging Face has them; and back to a directory.

Knows nothing of recipes or rows.
"""

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from shared.model.config import FAMILIES
from training.adapters import adapters_of, copy_model, with_exit_adapters
from training.config import RunConfig
from training.errors import TrainingError
from training.exits import head_of, stack_of
from training.sections import LoraSection, ModelSection

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(path: str) -> PreTrainedModel:
    """Read a model directory; weights are taken to float32, as the optimiser needs them.

    Raises:
        TrainingError: no model there, a damaged one, or one of a family that is not served.
    """
    transformers_logging.disable_progress_bar()
    if not Path(path).is_dir() and path.startswith(("/", ".", "~")):
        raise TrainingError(f"model directory {path} does not exist; set model.path")
    try:
        config = AutoConfig.from_pretrained(path)
        _check_family(config.model_type, path)
        model, found = AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, output_loading_info=True
        )
    except TrainingError:
        raise
    except Exception as error:  # transformers, safetensors and the hub raise dozens of kinds
        raise TrainingError(f"cannot load the model {path}: {_first_line(error)}") from error
    if found["missing_keys"]:  # transformers would draw them at random
        first, num = min(found["missing_keys"]), len(found["missing_keys"])
        raise TrainingError(f"cannot load the model {path}: {num} weights lack, such as {first}")
    return model


def new_model(values: dict[str, Any], seed: int, vocab_size: int, end_id: int | None) -> Any:
    """Draw a model from a configuration.

    Raises:
        TrainingError: the family is not served, or the values do not fit together.
    """
    _check_family(str(values["model_type"]), "model.init")
    rest = {name: value for name, value in values.items() if name != "model_type"}
    ids = {"bos_token_id": end_id, "eos_token_id": end_id, "pad_token_id": end_id}
    torch.manual_seed(seed)
    try:
        config = AutoConfig.for_model(
            values["model_type"], **({"vocab_size": vocab_size} | ids | rest)
        )
        model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # configuration classes raise what they please
        raise TrainingError(f"model.init: {_first_line(error)}") from error
    if config.vocab_size < vocab_size:
        raise TrainingError(f"model.init: vocab_size is below the tokenizer's {vocab_size}")
    return model.float()


def _check_family(model_type: str, origin: str) -> None:
    if model_type not in FAMILIES:
        raise TrainingError(
            f"{origin} is of the family {model_type!r}; exits can be trained for"
            f" {', '.join(FAMILIES)}"
        )


@torch.no_grad()
def start_as_identity(model: nn.Module, first_layer: int) -> None:
    """Make the layers from first_layer on add nothing, so that growing changes no output."""
    for layer in stack_of(model).layers[first_layer:]:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()


def prepared(model: Any, config: RunConfig) -> Any:
    """The model with what the run asks for: growth, frozen parts, adapters, compiled layers."""
    if config.recipe.start_layers is not None:
        start_as_identity(model, config.recipe.start_layers)
    _freeze(model, config.freeze)
    if config.lora is not None:
        model = with_lora(model, config.lora)
    if config.exit_adapters is not None:
        model = with_exit_adapters(model, config.exit_adapters, config.seed)
    if config.model.compile_layers:
        for layer in stack_of(model).layers:
            layer.compile(dynamic=True)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise TrainingError("nothing is left to train; shorten freeze")
    return model


def _freeze(model: nn.Module, names: list[Any]) -> None:
    stack = stack_of(model)
    parts = {
        "embedding": stack.embed_tokens,
        "norm": stack.norm,
        "head": head_of(model),
        "last_layer": stack.layers[-1],
    }
    for name in names:
        parts[name].requires_grad_(False)


def with_lora(model: Any, section: LoraSection) -> Any:
    """Add low-rank adapters; only they are trained.

    Raises:
        TrainingError: peft is missing, or no module has one of the names.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise TrainingError("lora needs peft: pip install 'shortstack-serve[train]'") from error
    lora = LoraConfig(
        r=section.rank,
        lora_alpha=section.alpha,
        lora_dropout=section.dropout,
        target_modules=section.target_modules,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, lora)
    except ValueError as error:
        raise TrainingError(f"lora.target_modules: {_first_line(error)}") from error


def base_of(model: Any, config: RunConfig) -> nn.Module | None:
    """A frozen copy of the model as the run finds it, where the recipe distils from it."""
    if not config.recipe.base_distillation:
        return None
    return copy.deepcopy(model).requires_grad_(False).eval()


def save_model(model: Any, tokenizer: Any, out: Path, section: ModelSection) -> None:
    """Write the model directory `out`; a directory there is complete.

    Low-rank adapters of the layers are merged in. Exit adapters lie beside the model, which is
    then a copy of the one that the run began with.
    """
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    adapters = adapters_of(model)
    if adapters is not None:
        copy_model(Path(str(section.path)), partial)
        adapters.to_file(partial)
    else:
        _write_weights(model, partial, DTYPES[section.store_dtype])
    if adapters is None or not (partial / "tokenizer.json").is_file():
        tokenizer.save_pretrained(partial)
    _replace(partial, out)


def _write_weights(model: Any, folder: Path, dtype: torch.dtype) -> None:
    if hasattr(model, "merge_and_unload"):
        model = copy.deepcopy(model).merge_and_unload()
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)  # the embedding, which is stored
    state = {name: value.detach().to(dtype) for name, value in state.items()}
    model.save_pretrained(folder, state_dict=state)
    config = folder / "config.json"  # says what held while training: float32, no cache
    values = json.loads(config.read_text(encoding="utf-8"))
    values |= {"dtype": str(dtype).removeprefix("torch."), "use_cache": True}
    config.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _replace(partial: Path, out: Path) -> None:
    """Move the new directory into place; files of the old one that it lacks are kept."""
    if out.exists():
        for path in partial.iterdir():
            if path.is_dir():
                shutil.rmtree(out / path.name, ignore_errors=True)
            os.replace(path, out / path.name)
        partial.rmdir()
    else:
        partial.rename(out)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
