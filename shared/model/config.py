"""What a checkpoint is: the numbers of its architecture, read and checked before anything loads.

Families: llama, mistral, qwen2, qwen3. transformers' own configuration classes fill in the
defaults of each family, so that a short `config.json` means the same here as there.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from shared.errors import BadModel
from shared.model.acceptance_head_file import find_acceptance_heads
from shared.model.acceptance_heads import AcceptanceHeads
from shared.model.draft_adapter_file import AdapterHost, find_draft_adapters, rope_of
from shared.model.draft_adapter_weights import DraftAdapterWeights, HeadLayout
from shared.model.exit_adapter_file import find_exit_adapters
from shared.model.exit_adapters import ExitAdapters
from shared.model.weights import sample_bytes
from shared.speculation.draft_vocab import DraftVocab, find_draft_vocab
from shared.speculation.vocabulary import ModelIdentity

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of one checkpoint. Units: counts; `rms_eps` is dimensionless."""

    path: Path
    model_type: str
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    vocab_size: int
    max_context_len: int
    rms_eps: float
    has_qkv_bias: bool
    has_output_bias: bool
    has_mlp_bias: bool
    has_qk_norm: bool
    is_tied: bool
    windows: tuple[int | None, ...]
    eos_token_ids: tuple[int, ...]
    dtype: torch.dtype
    hf_config: Any

    @property
    def dtype_name(self) -> str:
        """Name of the element type as settings and the wire have it."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def queries_per_kv(self) -> int:
        """J: query heads that share one KV head."""
        return self.num_heads // self.num_kv_heads

    def identity(self, model_name: str) -> ModelIdentity:
        """Return what others may know of this model, under the name it is served by."""
        return ModelIdentity(
            model_name=model_name,
            model_fingerprint=self.fingerprint,
            model_type=self.model_type,
            dtype=self.dtype_name,
            num_layers=self.num_layers,
            hidden_size=self.hidden_size,
            vocab_size=self.vocab_size,
            max_context_len=self.max_context_len,
            eos_token_ids=self.eos_token_ids,
        )

    def find_draft_vocab(self, wish: str) -> DraftVocab | None:
        """Return the draft vocabulary that the setting asks for; BadModel if it is not sound."""
        return find_draft_vocab(wish, self.path, self.vocab_size, self.eos_token_ids)

    def find_exit_adapters(self, wish: str) -> ExitAdapters | None:
        """Return the exit adapters that the setting asks for; BadModel if they are not sound."""
        return find_exit_adapters(wish, self.path, self.hidden_size, self.num_layers)

    def find_acceptance_heads(self, wish: str) -> AcceptanceHeads | None:
        """Return the acceptance heads that the setting asks for; BadModel if they are not sound."""
        return find_acceptance_heads(wish, self.path, self.hidden_size, self.num_layers)

    def find_draft_adapters(self, wish: str) -> tuple[DraftAdapterWeights, ...]:
        """Return the draft adapters that the setting asks for; BadModel if one is not sound."""
        return find_draft_adapters(wish, self.adapter_host)

    @property
    def adapter_host(self) -> AdapterHost:
        """What draft adapters of this model depend on."""
        layout = HeadLayout(self.hidden_size, self.num_heads, self.num_kv_heads, self.head_size)
        return AdapterHost(self.path, self.num_layers, layout, rope_of(self.hf_config))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, dtype and layer count: workers of a cell must agree on it.

        Weight files are hashed by samples, see `sample_bytes`.
        """
        digest = hashlib.sha256(f"{self.dtype_name} {self.num_layers}".encode())
        digest.update((self.path / "config.json").read_bytes())
        for file in sorted(self.path.glob("*.safetensors")):
            digest.update(sample_bytes(file))
        return digest.hexdigest()[:32]


def read_config(path: Path, dtype: str = "float32") -> ModelConfig:
    """Read and check the configuration of a Hugging Face directory.

    Raises:
        BadModel: the directory, file, family or a number in it cannot be served; says which.
    """
    raw = _read_json(path / "config.json")
    model_type = raw.get("model_type")
    if model_type not in FAMILIES:
        raise BadModel(
            f"{path}/config.json: model_type {model_type!r} is not supported; "
            f"supported families are {', '.join(FAMILIES)}"
        )
    if dtype not in DTYPES:
        raise BadModel(f"dtype {dtype!r} is not supported; use one of {', '.join(DTYPES)}")
    _refuse_quantized(path, raw)
    _check_positive(path, raw)
    # Imported here: transformers takes a second to load, and a bad path should fail before that.
    from transformers import AutoConfig

    try:
        hf_config = AutoConfig.from_pretrained(path, local_files_only=True)
    except Exception as error:  # its validators raise classes of several libraries
        raise BadModel(f"{path}/config.json: {' '.join(str(error).split())}") from None
    config = _from_hf(path, hf_config, DTYPES[dtype])
    _check_numbers(config)
    return config


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text())
    except FileNotFoundError:
        raise BadModel(
            f"{file} not found; a model is a Hugging Face directory with config.json, "
            "*.safetensors and a tokenizer"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadModel(f"{file} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise BadModel(f"{file} must hold a JSON object")
    return value


def _refuse_quantized(path: Path, raw: dict[str, Any]) -> None:
    if raw.get("quantization_config"):
        raise BadModel(f"{path}: quantized checkpoints are not supported; use the original weights")
    if raw.get("hidden_act", "silu") != "silu":
        raise BadModel(f"{path}/config.json: hidden_act {raw['hidden_act']!r}; only silu is known")


def _check_positive(path: Path, raw: dict[str, Any]) -> None:
    names = (
        "num_hidden_layers",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "vocab_size",
        "max_position_embeddings",
    )
    numbers = {name: raw[name] for name in names if isinstance(raw.get(name), int)}
    faults = [f"{name} {number}" for name, number in numbers.items() if number < 1]
    if faults:
        raise BadModel(f"{path}/config.json: {', '.join(faults)} must be positive")


def _from_hf(path: Path, hf: Any, dtype: torch.dtype) -> ModelConfig:
    family = hf.model_type
    num_heads = hf.num_attention_heads
    biased = bool(getattr(hf, "attention_bias", False))
    return ModelConfig(
        path=path,
        model_type=family,
        num_layers=hf.num_hidden_layers,
        hidden_size=hf.hidden_size,
        intermediate_size=hf.intermediate_size,
        num_heads=num_heads,
        num_kv_heads=getattr(hf, "num_key_value_heads", None) or num_heads,
        head_size=getattr(hf, "head_dim", None) or hf.hidden_size // num_heads,
        vocab_size=hf.vocab_size,
        max_context_len=hf.max_position_embeddings,
        rms_eps=hf.rms_norm_eps,
        has_qkv_bias=biased or family == "qwen2",
        has_output_bias=biased and family != "qwen2",
        has_mlp_bias=bool(getattr(hf, "mlp_bias", False)),
        has_qk_norm=family == "qwen3",
        is_tied=bool(hf.tie_word_embeddings),
        windows=_windows(hf),
        eos_token_ids=_eos_ids(path, hf),
        dtype=dtype,
        hf_config=hf,
    )


def _windows(hf: Any) -> tuple[int | None, ...]:
    """Return each layer's window in positions, the row's own included; None is no window."""
    window: int | None = getattr(hf, "sliding_window", None)
    kinds = getattr(hf, "layer_types", None)
    num_layers: int = hf.num_hidden_layers
    if window is None or kinds is None:
        return (window,) * num_layers
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _eos_ids(path: Path, hf: Any) -> tuple[int, ...]:
    """Return EOS ids; generation_config.json rules where it names some, as in transformers."""
    file = path / "generation_config.json"
    ids = _read_json(file).get("eos_token_id") if file.exists() else None
    if ids is None:
        ids = getattr(hf, "eos_token_id", None)
    if ids is None:
        return ()
    return tuple(ids) if isinstance(ids, list) else (ids,)


def _check_numbers(config: ModelConfig) -> None:
    faults = []
    if config.num_heads % config.num_kv_heads:
        faults.append(f"{config.num_heads} heads cannot share {config.num_kv_heads} KV heads")
    if config.head_size % 2:
        faults.append(f"head size {config.head_size} is odd; rotary embedding needs pairs")
    if len(config.windows) != config.num_layers:
        faults.append(f"layer_types names {len(config.windows)} of {config.num_layers} layers")
    if any(not 0 <= token < config.vocab_size for token in config.eos_token_ids):
        faults.append(f"an EOS id of {config.eos_token_ids} lies outside the vocabulary")
    if faults:
        raise BadModel(f"{config.path}/config.json: {'; '.join(faults)}")
