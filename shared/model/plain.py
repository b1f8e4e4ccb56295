"""Plain decoding: the same model without drafts, one session, one token per pass.

The reference of every comparison: no scheduler, no server, no other process. What speculation emits
must equal what this emits; what it costs is measured against this.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from shared.errors import InvalidRequest
from shared.ids import TokenId
from shared.model.compute_threads import ComputeThreads
from shared.model.kv_pool import KVPool, PoolLayout
from shared.model.layer_stack import Heads, LayerStack, load_stack
from shared.model.page_table import PageTable, num_pages_for
from shared.model.rows import SessionRows, pack_rows
from shared.model.sampling import RowChoice, choose
from shared.model.segment import LocalSegment
from shared.speculation.acceptance import cut_at_finish
from shared.speculation.vocabulary import Extent, FinishReason, SamplingParams, StopParams

PAGE_SIZE = 16
PREFILL_CHUNK_LEN = 512


@dataclass(frozen=True)
class PlainResult:
    """Emitted ids; gaps[i] is the target's top-two gap at token i (empty where not asked for)."""

    token_ids: list[int]
    gaps: list[float]
    finish_reason: FinishReason
    prefill_ns: int
    decode_ns: int


@dataclass
class _Trace:
    tokens: list[TokenId]
    gaps: list[float] = field(default_factory=list)


class PlainDecoder:
    """A checkpoint and a KV pool for one session."""

    def __init__(
        self,
        path: Path,
        dtype: str = "float32",
        device: str = "cpu",
        num_threads: int = 0,
        stack: LayerStack | None = None,
    ) -> None:
        if stack is None:
            stack = load_stack(Path(path), dtype, device, heads=Heads.TARGET)
            stack.threads = ComputeThreads.for_model(stack.config, num_threads)
        self.stack = stack
        layout = pool_layout(self.stack, self.stack.config.max_context_len, PAGE_SIZE)
        self.pool = KVPool(LocalSegment(layout.size_bytes, self.stack.device), layout)
        self._table = PageTable([Extent(0, layout.num_pages)], PAGE_SIZE)

    def generate(
        self,
        token_ids: list[int],
        sampling: SamplingParams,
        stop: StopParams,
        *,
        with_gaps: bool = True,
    ) -> PlainResult:
        """Continue a prompt. `stop.stop_token_ids` are all ids that end it, EOS included.

        Raises:
            InvalidRequest: the prompt is empty or leaves no room in the model's context.
        """
        room = self.stack.config.max_context_len - len(token_ids)
        if not token_ids or room < 1:
            raise InvalidRequest(
                f"a prompt of {len(token_ids)} tokens leaves no room", field="prompt"
            )
        trace = _Trace(list(map(TokenId, token_ids)))
        started_ns = time.perf_counter_ns()
        with torch.inference_mode():
            logits = self._prefill(trace.tokens)
            prefilled_ns = 0
            while True:
                token = self._choose(logits, trace, len(token_ids), sampling, with_gaps)
                prefilled_ns = prefilled_ns or time.perf_counter_ns()
                num_before = len(trace.tokens) - len(token_ids)
                trace.tokens.append(token)
                _, reason = cut_at_finish([token], num_before, stop)
                if reason is None and num_before + 1 == room:
                    reason = FinishReason.LENGTH
                if reason is not None:
                    break
                logits = self._run([token], len(trace.tokens) - 1)
        done_ns = time.perf_counter_ns()
        return PlainResult(
            list(trace.tokens[len(token_ids) :]),
            trace.gaps,
            reason,
            prefilled_ns - started_ns,
            done_ns - prefilled_ns,
        )

    def _prefill(self, tokens: list[TokenId]) -> torch.Tensor:
        logits = torch.empty(0)
        for start in range(0, len(tokens), PREFILL_CHUNK_LEN):
            logits = self._run(tokens[start : start + PREFILL_CHUNK_LEN], start)
        return logits

    def _run(self, tokens: list[TokenId], start: int) -> torch.Tensor:
        """Run all layers on tokens at positions from `start`; return the last row's logits."""
        stack = self.stack
        rows = pack_rows([SessionRows(self._table, list(tokens), start)], stack.rope_table_P1C)
        x_RD = stack.run(stack.embed(rows), 0, stack.num_loaded, rows, self.pool.layers)
        return stack.head(x_RD[-1:])

    def _choose(
        self,
        logits: torch.Tensor,
        trace: _Trace,
        prompt_len: int,
        sampling: SamplingParams,
        with_gaps: bool,
    ) -> TokenId:
        history = trace.tokens if sampling.needs_history else ()
        row = RowChoice(sampling, len(trace.tokens), prompt_len, history)
        choices = choose(logits, [row], with_gaps=with_gaps)
        if with_gaps:
            trace.gaps += choices.gaps
        return choices.tokens[0]


def pool_layout(stack: LayerStack, num_positions: int, page_size: int) -> PoolLayout:
    """Return the layout of a pool without exit states, for decoding in one process."""
    config = stack.config
    return PoolLayout(
        num_pages=num_pages_for(num_positions, page_size),
        page_size=page_size,
        num_kv_layers=stack.num_kv_layers,
        num_kv_heads=config.num_kv_heads,
        head_size=config.head_size,
        hidden_size=config.hidden_size,
        num_exit_slots=1,
        max_rows=1,
        dtype_name=config.dtype_name,
    )
