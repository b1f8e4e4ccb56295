"""The layer stack: any half-open range of a checkpoint's layers, over packed rows.

    x_0 = embed(token ids)          the residual stream, never normed
    x_{l+1} = layer l (x_l)         layers [start, end) turn x_start into x_end
    logits = head(norm(x_l))        the same norm and head at every exit

Knows nothing of sessions, drafts or processes. Layers are loaded up to a bound that may grow, so a
draft worker holds only the shallow ones.
"""

import ctypes
import gc
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path

import torch
import torch.nn.functional as F

from shared.model.attention import attend
from shared.model.config import ModelConfig, read_config
from shared.model.draft_adapter_weights import DraftAdapterWeights
from shared.model.draft_adapters import place_adapters
from shared.model.exit_adapters import ExitAdapters
from shared.model.linear import Linear, make_draft_head, make_linear
from shared.model.rms_norm import RmsNorm
from shared.model.rope import interleave_halves, rope_table, rotate
from shared.model.rows import RowBatch
from shared.model.token_subset import subset_of
from shared.model.weights import Weights
from shared.speculation.draft_vocab import AUTO, DraftVocab
from shared.speculation.methods.base import DraftMeans
from shared.speculation.skip_set import SkipSet

Progress = Callable[[str, int, int], None]


def no_progress(stage: str, done: int, total: int) -> None:
    """Report progress to nobody."""


class Layer:
    """One block: attention and gated MLP, each behind a norm and added to the residual stream."""

    def __init__(self, config: ModelConfig, index: int, weights: Weights, device: str) -> None:
        self._num_heads = config.num_heads
        self._num_kv_heads = config.num_kv_heads
        self._num_rotated = config.num_heads + config.num_kv_heads
        self._head_size = config.head_size
        self._hidden_size = config.hidden_size
        self._intermediate_size = config.intermediate_size
        self._window = config.windows[index]
        read = _LayerReader(config, index, weights, device)
        self._input_norm = read.norm("input_layernorm", config.hidden_size)
        self._post_norm = read.norm("post_attention_layernorm", config.hidden_size)
        self._query_norm = read.head_norm("q_norm") if config.has_qk_norm else None
        self._key_norm = read.head_norm("k_norm") if config.has_qk_norm else None
        self._qkv = read.fused_qkv()
        self._output = read.linear(
            "self_attn.o_proj",
            config.hidden_size,
            config.num_heads * config.head_size,
            config.has_output_bias,
        )
        self._gate_up = read.fused_gate_up()
        self._down = read.linear(
            "mlp.down_proj", config.hidden_size, config.intermediate_size, config.has_mlp_bias
        )

    @property
    def linears(self) -> tuple[tuple[Linear, int], ...]:
        """The matrix products and the size of a row that each takes, to be measured alone."""
        num_attended = self._num_heads * self._head_size
        return (
            (self._qkv, self._hidden_size),
            (self._output, num_attended),
            (self._gate_up, self._hidden_size),
            (self._down, self._intermediate_size),
        )

    def __call__(self, x_RD: torch.Tensor, rows: RowBatch, kv_2GSH: torch.Tensor) -> torch.Tensor:
        """Run the block, writing the rows' keys and values to their slots first."""
        return self.feed_forward(self.attend(x_RD, rows, kv_2GSH))

    def attend(self, x_RD: torch.Tensor, rows: RowBatch, kv_2GSH: torch.Tensor) -> torch.Tensor:
        """Run the attention sub-layer alone; its keys and values are written first."""
        num_rows = x_RD.shape[0]
        qkv = self._qkv(self._input_norm(x_RD))
        heads = qkv.view(num_rows, self._num_rotated + self._num_kv_heads, self._head_size)
        if self._query_norm is not None and self._key_norm is not None:
            self._norm_heads(heads)
        rotate(heads[:, : self._num_rotated], rows.rope_R1C)
        kv = heads[:, self._num_heads :]
        kv = kv.view(num_rows, 2, self._num_kv_heads, self._head_size).permute(1, 2, 0, 3)
        kv_2GSH.index_copy_(2, rows.slots_R, kv)
        queries = heads[:, : self._num_heads]
        return self._output.add(attend(queries, kv_2GSH, rows.spans, self._window), x_RD)

    def feed_forward(self, x_RD: torch.Tensor) -> torch.Tensor:
        """Run the MLP sub-layer alone."""
        gate_up = self._gate_up(self._post_norm(x_RD))
        gate, up = gate_up.chunk(2, -1)
        return self._down.add(F.silu(gate).mul_(up), x_RD)

    def _norm_heads(self, heads: torch.Tensor) -> None:
        assert self._query_norm is not None and self._key_norm is not None
        queries = heads[:, : self._num_heads]
        keys = heads[:, self._num_heads : self._num_rotated]
        queries.copy_(self._query_norm(queries))
        keys.copy_(self._key_norm(keys))


class _LayerReader:
    """Reads the tensors of one layer by their Hugging Face names."""

    def __init__(self, config: ModelConfig, index: int, weights: Weights, device: str) -> None:
        self._config = config
        self._prefix = f"model.layers.{index}."
        self._weights = weights
        self._device = device

    def _read(self, name: str, *shape: int) -> torch.Tensor:
        tensor = self._weights.read(self._prefix + name, shape, self._config.dtype)
        return tensor.to(self._device)

    def norm(self, name: str, size: int) -> RmsNorm:
        return RmsNorm(self._read(f"{name}.weight", size), self._config.rms_eps)

    def head_norm(self, name: str) -> RmsNorm:
        weight = self._read(f"self_attn.{name}.weight", self._config.head_size)
        return RmsNorm(interleave_halves(weight, 1), self._config.rms_eps)

    def linear(self, name: str, num_out: int, num_in: int, has_bias: bool) -> Linear:
        # A copy: a tensor kept as it was read would keep its whole file mapped.
        bias = self._read(f"{name}.bias", num_out).clone() if has_bias else None
        return make_linear(self._read(f"{name}.weight", num_out, num_in), bias)

    def fused_qkv(self) -> Linear:
        config = self._config
        heads = {"q": config.num_heads, "k": config.num_kv_heads, "v": config.num_kv_heads}
        weights, biases = [], []
        for name, num_heads in heads.items():
            num_out = num_heads * config.head_size
            prefix = f"self_attn.{name}_proj"
            weight = self._read(f"{prefix}.weight", num_out, config.hidden_size)
            weights.append(weight if name == "v" else interleave_halves(weight, num_heads))
            if config.has_qkv_bias:
                bias = self._read(f"{prefix}.bias", num_out)
                biases.append(bias if name == "v" else interleave_halves(bias, num_heads))
        return make_linear(torch.cat(weights), torch.cat(biases) if biases else None)

    def fused_gate_up(self) -> Linear:
        config = self._config
        shape = (config.intermediate_size, config.hidden_size)
        weights = [self._read(f"mlp.{name}_proj.weight", *shape) for name in ("gate", "up")]
        bias = None
        if config.has_mlp_bias:
            bias = torch.cat([self._read(f"mlp.{n}_proj.bias", shape[0]) for n in ("gate", "up")])
        return make_linear(torch.cat(weights), bias)


class Heads(Enum):
    """Which output heads a process needs: to verify, to draft, or (in one process) both."""

    TARGET = "target"
    DRAFT = "draft"
    BOTH = "both"


class LayerStack:
    """Layers [0, num_loaded), embedding, final norm and heads of one checkpoint on one device.

    With a draft vocabulary the draft head has the rows of its U tokens alone: `draft_subset`. It
    may also be rougher than the full one, where that is cheaper. With exit adapters it is to be
    shown exits as `adapt` makes them.

    With draft adapters, running layer l-1 writes the keys and values of the adapter at l too, into
    the KV layer behind the model's own: a pool then has `num_kv_layers` of them, and whatever holds
    the invariant of the others holds that of the adapters'.

    Raises:
        BadModel: see `read_config` and `Weights`; raised while loading, never while running.
    """

    def __init__(
        self,
        config: ModelConfig,
        device: str = "cpu",
        num_layers: int | None = None,
        progress: Progress = no_progress,
        heads: Heads = Heads.BOTH,
        draft_vocab: DraftVocab | None = None,
        exit_adapters: ExitAdapters | None = None,
        draft_adapters: Sequence[DraftAdapterWeights] = (),
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.layers: list[Layer] = []
        self.num_row_layers = 0
        self.num_head_rows = 0
        self.num_adapter_rows = 0
        self.num_adapter_kv_rows = 0
        self.draft_vocab = None if heads is Heads.TARGET else draft_vocab
        self.draft_subset = subset_of(self.draft_vocab, self.device)
        self.exit_adapters: ExitAdapters | None = None
        if exit_adapters is not None and heads is not Heads.TARGET:
            self.exit_adapters = exit_adapters.to(self.device, config.dtype)
        if heads is Heads.TARGET:
            draft_adapters = ()
        self.draft_adapters = place_adapters(
            draft_adapters, config.num_layers, self.device, config.dtype
        )
        self.rope_table_P1C = rope_table(config, self.device)
        shape = (config.vocab_size, config.hidden_size)
        with Weights(config.path) as weights, torch.inference_mode():
            norm = weights.read("model.norm.weight", shape[1:], config.dtype).to(self.device)
            self._final_norm = RmsNorm(norm, config.rms_eps)
            self._load_heads(weights, shape, heads)
            self._load(weights, config.num_layers if num_layers is None else num_layers, progress)
        # Mapped anew: packing has read every page of the first mapping, and these rows would keep
        # all of it resident. Of this one only the rows of tokens in use ever are.
        with Weights(config.path) as weights:
            embedding_VD = weights.read("model.embed_tokens.weight", shape, config.dtype)
            self._embedding_VD = embedding_VD.to(self.device)
        return_freed_memory()

    def _load_heads(self, weights: Weights, shape: tuple[int, int], heads: Heads) -> None:
        """Load the heads wanted; drafting takes the full one where no cheaper one pays."""
        name = "model.embed_tokens.weight" if self.config.is_tied else "lm_head.weight"
        weight_VD = weights.read(name, shape, self.config.dtype).to(self.device)
        ids_U = self.draft_subset.ids_U if self.draft_subset is not None else None
        cheaper = None if heads is Heads.TARGET else make_draft_head(weight_VD, ids_U)
        full = None if heads is Heads.DRAFT and cheaper else make_linear(weight_VD)
        self._head = full
        self._draft_head = cheaper or full

    def synchronize(self) -> None:
        """Wait until what was written is visible to other processes; free on a CPU."""
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()

    @property
    def num_loaded(self) -> int:
        """Layers that can run are [0, num_loaded)."""
        return len(self.layers)

    @property
    def num_kv_layers(self) -> int:
        """Layers whose KV a pool for this stack holds: the model's and one of each adapter."""
        return self.config.num_layers + len(self.draft_adapters)

    @property
    def adapter_weights(self) -> list[DraftAdapterWeights]:
        """Draft adapters as they were read, shallow first."""
        return [adapter.weights for adapter in self.draft_adapters.values()]

    @property
    def means(self) -> DraftMeans:
        """What there is to draft with."""
        return DraftMeans(self.config.num_layers, tuple(self.draft_adapters))

    def ensure_loaded(self, num_layers: int, progress: Progress = no_progress) -> None:
        """Load layers up to [0, num_layers) where they are not yet."""
        if num_layers > self.num_loaded:
            with Weights(self.config.path) as weights, torch.inference_mode():
                self._load(weights, num_layers, progress)
            return_freed_memory()

    def _load(self, weights: Weights, num_layers: int, progress: Progress) -> None:
        for index in range(self.num_loaded, num_layers):
            progress("packing", index, num_layers)
            self.layers.append(Layer(self.config, index, weights, str(self.device)))
        progress("packing", num_layers, num_layers)

    def embed(self, rows: RowBatch) -> torch.Tensor:
        """Return x_0 [R, D] of the rows' tokens."""
        return F.embedding(rows.token_ids_R, self._embedding_VD)

    def run(
        self, x_RD: torch.Tensor, start: int, end: int, rows: RowBatch, kv: list[torch.Tensor]
    ) -> torch.Tensor:
        """Run layers [start, end): x_start -> x_end, writing the rows' KV of those layers.

        KV of the adapters at exits in [start + 1, end] is written as well.
        """
        adapters = self.draft_adapters
        for index in range(start, end):
            x_RD = self.layers[index](x_RD, rows, kv[index])
            if adapters and index + 1 in adapters:
                adapters[index + 1].write(x_RD, rows, kv)
                self.num_adapter_kv_rows += x_RD.shape[0]
        self.num_row_layers += x_RD.shape[0] * (end - start)
        return x_RD

    def run_without(
        self, skip_set: SkipSet, x_RD: torch.Tensor, rows: RowBatch, kv: list[torch.Tensor]
    ) -> torch.Tensor:
        """Run all layers less a skip set's sub-layers, which leave rows and KV as they are."""
        assert self.num_loaded == self.config.num_layers, "layers are missing: `ensure_loaded`"
        skipped = skip_set.sub_layers
        for index, layer in enumerate(self.layers):
            if 2 * index not in skipped:
                x_RD = layer.attend(x_RD, rows, kv[index])
            if 2 * index + 1 not in skipped:
                x_RD = layer.feed_forward(x_RD)
        # What is run of layers in halves counts as so many whole ones.
        self.num_row_layers += x_RD.shape[0] * (len(self.layers) - len(skipped) // 2)
        return x_RD

    def head(self, x_RD: torch.Tensor) -> torch.Tensor:
        """Return float32 logits [R, V]: final norm and output head, the same at every exit."""
        assert self._head is not None, "this process loaded no head to verify with"
        self.num_head_rows += x_RD.shape[0]
        return self._head(self._final_norm(x_RD)).float()

    def adapt(self, x_RD: torch.Tensor, exit_layers: Sequence[int]) -> torch.Tensor:
        """Return exit states x_E [R, D] as the draft head is to read them, each at its own E."""
        return x_RD if self.exit_adapters is None else self.exit_adapters.apply(x_RD, exit_layers)

    def read_exits(self, x_RD: torch.Tensor, exit_layers: Sequence[int]) -> torch.Tensor:
        """Return z [R, D] of exit states, each read at its own E, for `score_drafts`."""
        return self._final_norm(self.adapt(x_RD, exit_layers))

    def read_through_adapter(
        self, x_RD: torch.Tensor, exit_layer: int, rows: RowBatch, kv: list[torch.Tensor]
    ) -> torch.Tensor:
        """Return z [R, D] as the draft adapter of an exit makes it, for `score_drafts`.

        The rows have been run to that exit, so the adapter's KV of them is written.
        """
        self.num_adapter_rows += x_RD.shape[0]
        return self.draft_adapters[exit_layer].read(x_RD, rows, kv)

    def score_drafts(self, z_RD: torch.Tensor) -> torch.Tensor:
        """Return float32 logits [R, U] to propose tokens by; with no `draft_subset` U is V."""
        assert self._draft_head is not None, "this process loaded no head to draft with"
        self.num_head_rows += z_RD.shape[0]
        return self._draft_head(z_RD).float()

    def draft_head(self, x_RD: torch.Tensor) -> torch.Tensor:
        """Return `score_drafts` of exit states that `adapt` made, behind the final norm."""
        return self.score_drafts(self._final_norm(x_RD))


def return_freed_memory() -> None:
    """Give memory that was freed back to the system; packing leaves twice the weights behind.

    Where the C library is not glibc there is nothing to ask for.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def load_stack(
    path: Path,
    dtype: str = "float32",
    device: str = "cpu",
    num_layers: int | None = None,
    progress: Progress = no_progress,
    heads: Heads = Heads.BOTH,
    draft_vocab: str = AUTO,
    exit_adapters: str = AUTO,
    draft_adapters: str = AUTO,
) -> LayerStack:
    """Read a checkpoint; all faults are raised here, before any port opens.

    Raises:
        BadModel: what is wrong with the directory, or with what is asked for to draft with.
    """
    config = read_config(path, dtype)
    if heads is Heads.TARGET:
        return LayerStack(config, device, num_layers, progress, heads)
    vocab, adapters = config.find_draft_vocab(draft_vocab), config.find_exit_adapters(exit_adapters)
    drafting = config.find_draft_adapters(draft_adapters)
    return LayerStack(config, device, num_layers, progress, heads, vocab, adapters, drafting)
