"""Attention of packed rows, each session's over its own pages.

    keys and values   [...prefix...)   [......own......)        ranges of slots, read in place
    rows                                           [rows)

A session's positions lie in one range of slots or in several. Ranges that are worth it are read in
place, one product each, and merged by their log-sum-exps; many short ones are gathered first. What
no position of the session holds is never read. What a row may not see is masked: rows behind it,
other branches of its tree, what lies before its window.

The product is torch's scaled_dot_product_attention. A single row's query heads that share a KV head
go in as rows of that head: keys are then read once for all of them, 26 against 52 us at 288
positions (12 query heads, 4 KV heads, CPU). With more rows it does not pay: 15 rows of a head took
98 us where 5 rows of 3 heads take 67.

N query heads, G KV heads, J = N / G, H head size, R rows, S slots, T keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from shared.model.rows import Span

# Keys and values that each further range has to bring to be read in place, on average: its product
# and the merging take about as long as gathering so much.
RANGE_BYTES = 393_216

SlotRange = tuple[int, int]


def attend(
    queries_RNH: torch.Tensor, kv_2GSH: torch.Tensor, spans: Sequence[Span], window: int | None
) -> torch.Tensor:
    """Return attention outputs [R, N*H] of all rows of a pass.

    Args:
        queries_RNH: rotated queries of the spans' rows, any strides between rows.
        kv_2GSH: keys and values of the layer, the rows' own already written.
        spans: where the sessions' positions lie; their rows follow each other from 0 on.
        window: positions that a row sees, its own included; None is all.
    """
    num_rows, _, head_size = queries_RNH.shape
    keys_1GSH, values_1GSH = kv_2GSH.unsqueeze(1).unbind(0)
    inputs = _Inputs(
        queries_RNH.view(num_rows, kv_2GSH.shape[1], -1, head_size),
        queries_RNH.transpose(0, 1).unsqueeze(0),
        keys_1GSH,
        values_1GSH,
        window,
    )
    parts = [_attend_span(inputs, span) for span in spans]
    out_RGJH = parts[0] if len(parts) == 1 else torch.cat(parts)
    return out_RGJH.reshape(num_rows, -1)


@dataclass(slots=True)
class _Inputs:
    """Views of a layer's queries, keys and values that all spans share."""

    queries_RGJH: torch.Tensor
    queries_1NRH: torch.Tensor
    keys_1GSH: torch.Tensor
    values_1GSH: torch.Tensor
    window: int | None


def _attend_span(inputs: _Inputs, span: Span) -> torch.Tensor:
    """Return the outputs [r, G, J, H] of one session's rows."""
    num_rows, window = span.num_rows, inputs.window
    kv_start = 0 if window is None else max(0, span.first_position - window + 1)
    ranges = span.slot_ranges if kv_start == 0 else _cut(span.slot_ranges, kv_start)
    if num_rows == 1:
        queries = inputs.queries_RGJH.narrow(0, span.row_start, 1)
    else:
        queries = inputs.queries_1NRH.narrow(2, span.row_start, num_rows)
    if len(ranges) > 1 and _can_merge(ranges, span, inputs):
        out = _attend_ranges(queries, inputs, span, ranges)
    else:
        keys_1GTH, values_1GTH = _read(inputs, span, ranges, kv_start)
        out = F.scaled_dot_product_attention(
            queries,
            keys_1GTH,
            values_1GTH,
            attn_mask=_mask(span, window, span.kv_len - kv_start, keys_1GTH),
            enable_gqa=num_rows > 1,
        )
    if num_rows == 1:
        return out
    return out.transpose(1, 2).reshape(num_rows, *inputs.queries_RGJH.shape[1:])


def _cut(ranges: Sequence[SlotRange], start: int) -> Sequence[SlotRange]:
    """Leave the first `start` positions out."""
    if start == 0:
        return ranges
    kept = []
    for first, end in ranges:
        taken = min(start, end - first)
        start -= taken
        if first + taken < end:
            kept.append((first + taken, end))
    return kept


def _can_merge(ranges: Sequence[SlotRange], span: Span, inputs: _Inputs) -> bool:
    """Say whether ranges may be read in place, and are worth it.

    Every row must see some key of every range: what is not for all rows to see lies in the last
    one, where each sees itself; no window.
    """
    keys_1GSH = inputs.keys_1GSH
    if keys_1GSH.device.type != "cpu":
        return False
    if not span.sees_all:
        last_len = ranges[-1][1] - ranges[-1][0]
        if inputs.window is not None or last_len < span.kv_len - span.root:
            return False
    num_keys = sum(end - first for first, end in ranges)
    position_bytes = 2 * keys_1GSH.shape[1] * keys_1GSH.shape[3] * keys_1GSH.element_size()
    return num_keys * position_bytes >= (len(ranges) - 1) * RANGE_BYTES


def _attend_ranges(
    queries: torch.Tensor, inputs: _Inputs, span: Span, ranges: Sequence[SlotRange]
) -> torch.Tensor:
    """Attend to each range by itself and weigh the outputs by what they saw.

    With s and t the log-sum-exps of two ranges' scores, the share of the second is
    1 / (1 + exp(s - t)), and both together have the log-sum-exp log(exp(s) + exp(t)).
    """
    out, seen = torch.empty(0), torch.empty(0)
    for index, (first, end) in enumerate(ranges):
        keys_1GTH = inputs.keys_1GSH.narrow(2, first, end - first)
        is_last = index == len(ranges) - 1
        part, part_seen = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default(
            queries,
            keys_1GTH,
            inputs.values_1GSH.narrow(2, first, end - first),
            attn_mask=_mask(span, None, end - first, keys_1GTH) if is_last else None,
        )
        if index == 0:
            out, seen = part, part_seen
            continue
        share = (part_seen - seen).sigmoid_().unsqueeze(-1)
        out = torch.lerp(out, part, share.to(out.dtype))
        if not is_last:
            seen = torch.logaddexp(seen, part_seen)
    return out


def _read(
    inputs: _Inputs, span: Span, ranges: Sequence[SlotRange], kv_start: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return keys and values [1, G, T, H] of the positions from kv_start on."""
    keys_1GSH, values_1GSH = inputs.keys_1GSH, inputs.values_1GSH
    if len(ranges) == 1:
        first, end = ranges[0]
        return keys_1GSH.narrow(2, first, end - first), values_1GSH.narrow(2, first, end - first)
    slots_T = span.slots_on(keys_1GSH.device)[kv_start:]
    return keys_1GSH.index_select(2, slots_T), values_1GSH.index_select(2, slots_T)


def _mask(span: Span, window: int | None, num_keys: int, like: torch.Tensor) -> torch.Tensor | None:
    """Return the additive mask [R, T] of a span, made once per pass; None hides nothing."""
    if span.sees_all:
        return None
    key = (window, num_keys)
    if key not in span.masks:
        make = _make_mask if span.paths is None else _make_tree_mask
        span.masks[key] = make(span, num_keys, window, like)
    return span.masks[key]


def _make_mask(span: Span, num_keys: int, window: int | None, like: torch.Tensor) -> torch.Tensor:
    # Row i is the key at column num_keys - num_rows + i: it sees that and those before it.
    num_rows = span.num_rows
    last = num_keys - num_rows
    mask = torch.full((num_rows, num_keys), float("-inf"), dtype=like.dtype, device=like.device)
    mask = mask.triu_(last + 1)
    if window is not None:
        hidden = torch.ones_like(mask, dtype=torch.bool).tril_(last - window)
        mask.masked_fill_(hidden, float("-inf"))
    return mask


def _make_tree_mask(
    span: Span, num_keys: int, window: int | None, like: torch.Tensor
) -> torch.Tensor:
    """Let rows see the keys before the root, and behind it those on their path.

    Column c is the key at slot number kv_start + c of the session. With a window a row of depth j
    sees the last `window` positions up to its own, be they before the root or on its path.
    """
    assert span.paths is not None
    kv_start = span.kv_len - num_keys
    num_before = max(0, span.root - kv_start)
    mask = torch.full((span.num_rows, num_keys), float("-inf"), dtype=like.dtype)
    rows: list[int] = []
    columns: list[int] = []
    for row, path in enumerate(span.paths):
        first = 0 if window is None else max(0, span.root + len(path) - window)
        mask[row, max(0, first - kv_start) : num_before] = 0.0
        own = path[max(0, first - span.root) :]
        columns += [span.root + each - kv_start for each in own]
        rows += [row] * len(own)
    mask[rows, columns] = 0.0
    return mask.to(like.device)
