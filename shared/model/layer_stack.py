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

from shared.model.acceptance_heads import AcceptanceHeads, bare_chances
from shared.model.acceptance_tables import AcceptanceTables
from shared.model.compute_threads import ComputeThreads
from shared.model.config import ModelConfig, read_config
from shared.model.draft_adapter_weights import DraftAdapterWeights
from shared.model.draft_adapters import place_adapters
from shared.model.exit_adapters import ExitAdapters
from shared.model.layer import Layer
from shared.model.linear import make_draft_head, make_linear
from shared.model.rms_norm import RmsNorm
from shared.model.rope import rope_table
from shared.model.rows import RowBatch
from shared.model.sampling import Choices
from shared.model.token_subset import subset_of
from shared.model.weights import Weights
from shared.speculation.draft_vocab import AUTO, DraftVocab
from shared.speculation.methods.base import DraftMeans
from shared.speculation.skip_set import SkipSet

Progress = Callable[[str, int, int], None]


def no_progress(stage: str, done: int, total: int) -> None:
    """Report progress to nobody."""


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
        acceptance_heads: AcceptanceHeads | None = None,
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        # Fitted to each run of layers; None leaves them to torch.
        self.threads: ComputeThreads | None = None
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
            self._load_heads(weights, shape, heads, acceptance_heads)
            self._load(weights, config.num_layers if num_layers is None else num_layers, progress)
        # Mapped anew: packing has read every page of the first mapping, and these rows would keep
        # all of it resident. Of this one only the rows of tokens in use ever are.
        with Weights(config.path) as weights:
            embedding_VD = weights.read("model.embed_tokens.weight", shape, config.dtype)
            self._embedding_VD = embedding_VD.to(self.device)
        return_freed_memory()

    def _load_heads(
        self,
        weights: Weights,
        shape: tuple[int, int],
        heads: Heads,
        acceptance_heads: AcceptanceHeads | None,
    ) -> None:
        """Load the heads wanted; drafting takes the full one where no cheaper one pays."""
        name = "model.embed_tokens.weight" if self.config.is_tied else "lm_head.weight"
        weight_VD = weights.read(name, shape, self.config.dtype).to(self.device)
        ids_U = self.draft_subset.ids_U if self.draft_subset is not None else None
        cheaper = None if heads is Heads.TARGET else make_draft_head(weight_VD, ids_U)
        full = None if heads is Heads.DRAFT and cheaper else make_linear(weight_VD)
        self._head = full
        self._draft_head = cheaper or full
        self.acceptance_heads = None if heads is Heads.TARGET else acceptance_heads
        self._acceptance: AcceptanceTables | None = None
        if self.acceptance_heads is not None:
            self._acceptance = AcceptanceTables(self.acceptance_heads, weight_VD)

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
        self._fit_threads(x_RD)
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
        self._fit_threads(x_RD)
        skipped = skip_set.sub_layers
        for index, layer in enumerate(self.layers):
            if 2 * index not in skipped:
                x_RD = layer.attend(x_RD, rows, kv[index])
            if 2 * index + 1 not in skipped:
                x_RD = layer.feed_forward(x_RD)
        # What is run of layers in halves counts as so many whole ones.
        self.num_row_layers += x_RD.shape[0] * (len(self.layers) - len(skipped) // 2)
        return x_RD

    def _fit_threads(self, x_RD: torch.Tensor) -> None:
        """Set the threads for these rows, and for the head behind them."""
        if self.threads is not None:
            self.threads.fit(x_RD.shape[0])

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

    def chances(
        self,
        z_RD: torch.Tensor,
        exit_layers: Sequence[int],
        choices: Choices,
        gaps: Sequence[float],
        temperatures: Sequence[float],
    ) -> list[float]:
        """Return the chance that the full model agrees with each choice, by its exit's head.

        Args:
            z_RD: what the choices were made of; exit_layers: where it was read, row by row.
            choices: with the best two; gaps: between these, in units of logits.
            temperatures: that the choices were made at; 0 of greedy ones.
        """
        if self._acceptance is None:
            return bare_chances(gaps)
        return self._acceptance.chances(z_RD, exit_layers, choices.best_two, gaps, temperatures)

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
    acceptance_heads: str = AUTO,
) -> LayerStack:
    """Read a checkpoint; all faults are raised here, before any port opens.

    Raises:
        BadModel: what is wrong with the directory, or with what is asked for to draft with.
    """
    config = read_config(path, dtype)
    if heads is Heads.TARGET:
        return LayerStack(config, device, num_layers, progress, heads)
    vocab, adapters = config.find_draft_vocab(draft_vocab), config.find_exit_adapters(exit_adapters)
    return LayerStack(
        config,
        device,
        num_layers,
        progress,
        heads,
        vocab,
        adapters,
        config.find_draft_adapters(draft_adapters),
        config.find_acceptance_heads(acceptance_heads),
    )
