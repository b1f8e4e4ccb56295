"""Random tiny models of every supported family, written as Hugging Face directories.

Weights are spread wide enough that greedy text wanders over the vocabulary instead of looping, and
that shallow exits agree with the last layer now and then.
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

NUM_LAYERS = 4
HIDDEN_SIZE = 64
VOCAB_SIZE = 99
MAX_CONTEXT_LEN = 128
EOS_ID = 2
# Shorter than the sequences of the tests.
WINDOW = 11


@dataclass(frozen=True)
class ModelKind:
    """A family and what is special about one of its models."""

    config_class: type[PreTrainedConfig]
    options: dict[str, Any] = field(default_factory=dict)


KINDS: dict[str, ModelKind] = {
    "llama": ModelKind(LlamaConfig, {"tie_word_embeddings": False}),
    "llama-tied-biased": ModelKind(
        LlamaConfig, {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}
    ),
    "llama3-rope": ModelKind(
        LlamaConfig,
        {
            "tie_word_embeddings": False,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500_000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
    ),
    "mistral-window": ModelKind(MistralConfig, {"sliding_window": WINDOW}),
    "qwen2": ModelKind(Qwen2Config, {"tie_word_embeddings": False}),
    "qwen2-window": ModelKind(
        Qwen2Config, {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2}
    ),
    "qwen3": ModelKind(Qwen3Config, {"head_dim": 24, "tie_word_embeddings": True}),
}


def make_config(kind: str, num_layers: int = NUM_LAYERS, **options: Any) -> PreTrainedConfig:
    """Return the configuration of a tiny model."""
    chosen = KINDS[kind]
    return chosen.config_class(
        **{
            "vocab_size": VOCAB_SIZE,
            "hidden_size": HIDDEN_SIZE,
            "intermediate_size": 96,
            "num_hidden_layers": num_layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": MAX_CONTEXT_LEN,
            "bos_token_id": 1,
            "eos_token_id": EOS_ID,
            "pad_token_id": 0,
        }
        | chosen.options
        | options
    )


def write_model(
    path: Path,
    kind: str = "llama",
    *,
    seed: int = 0,
    num_layers: int = NUM_LAYERS,
    is_sharded: bool = False,
    **options: Any,
) -> Path:
    """Write a model directory and return it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(make_config(kind, num_layers, **options))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                _spread(name, parameter, model.config.tie_word_embeddings)
    model.generation_config.eos_token_id = EOS_ID
    model.save_pretrained(path, max_shard_size="100KB" if is_sharded else "1GB")
    return path


def _spread(name: str, parameter: torch.Tensor, is_tied: bool) -> None:
    if name.endswith("norm.weight"):
        parameter.uniform_(0.7, 1.3)
    elif name.endswith("bias"):
        parameter.normal_(std=0.2)
    elif name.endswith(("embed_tokens.weight", "lm_head.weight")):
        # A strong tied embedding would predict the token that was just read.
        parameter.normal_(std=0.25 if is_tied else 0.6)
    else:
        parameter.normal_(std=0.14)


def edit_config(path: Path, **changes: Any) -> None:
    """Change keys of a config.json; None removes one."""
    file = path / "config.json"
    raw = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))


@functools.cache
def reference_model(path: Path) -> Any:
    """Return transformers' own model of a directory, for comparison."""
    config = AutoConfig.from_pretrained(path)
    return AutoModelForCausalLM.from_pretrained(
        path, config=config, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@functools.cache
def _greedy(path: Path, prompt: tuple[int, ...], num_new: int) -> tuple[int, ...]:
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        out = reference_model(path).generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=num_new,
            do_sample=False,
        )
    return tuple(out[0, len(prompt) :].tolist())


def reference_greedy(path: Path, prompt: Sequence[int], num_new: int) -> list[int]:
    """Return what `transformers.generate` emits greedily, its end-of-sequence id included."""
    return list(_greedy(path, tuple(prompt), num_new))


def reference_logits(path: Path, tokens: Sequence[int]) -> torch.Tensor:
    """Return transformers' logits [len(tokens), V] of one sequence."""
    ids = torch.tensor([list(tokens)])
    with torch.inference_mode():
        logits: torch.Tensor = reference_model(path)(
            ids, attention_mask=torch.ones_like(ids)
        ).logits
    return logits[0]
