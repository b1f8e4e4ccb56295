"""The pool of a cell: its layout from the settings, its memory, and how both are told to others."""

import logging

import torch

from services.verify.settings import VerifyServiceSettings
from shared.errors import Internal
from shared.model.cuda_segment import CudaSegment
from shared.model.kv_pool import PoolLayout
from shared.model.layer_stack import LayerStack
from shared.model.page_table import num_pages_for
from shared.model.segment import LocalSegment, Segment, ShmSegment, remove_orphans
from shared.rpc import shortstack_pb2 as pb

log = logging.getLogger(__name__)

# Positions that a session is given room for when the pool's size is derived.
DERIVED_SESSION_LEN = 2048
# Most bytes that a derived pool takes; a setting may ask for more.
DERIVED_POOL_BYTES = 4 << 30


def make_layout(settings: VerifyServiceSettings, stack: LayerStack) -> PoolLayout:
    """Return the layout of the pool; its size follows from the sessions where it is not set."""
    verify, config = settings.verify, stack.config
    num_pages = verify.num_pages
    if not num_pages:
        session_len = min(config.max_context_len, DERIVED_SESSION_LEN)
        num_pages = verify.max_sessions * num_pages_for(session_len, verify.page_size)
        # One session of the model's whole context always fits.
        num_pages = max(num_pages, num_pages_for(config.max_context_len, verify.page_size))
        page_bytes = 2 * stack.num_kv_layers * config.num_kv_heads * config.head_size
        page_bytes *= config.dtype.itemsize * verify.page_size
        num_pages = max(1, min(num_pages, DERIVED_POOL_BYTES // page_bytes))
    return PoolLayout(
        num_pages=num_pages,
        page_size=verify.page_size,
        num_kv_layers=stack.num_kv_layers,
        num_kv_heads=config.num_kv_heads,
        head_size=config.head_size,
        hidden_size=config.hidden_size,
        # Twice the sessions: a fenced session's old slot waits in quarantine.
        num_exit_slots=2 * verify.max_sessions,
        max_rows=verify.max_draft_len + 1,
        dtype_name=config.dtype_name,
    )


def make_segment(
    settings: VerifyServiceSettings, layout: PoolLayout, device: torch.device
) -> Segment:
    """Return the memory of a pool: shared with another process only where one drafts."""
    if settings.verify.cell_kind != "split":
        return LocalSegment(layout.size_bytes, device)
    if device.type == "cuda":
        return CudaSegment(layout.size_bytes, device)
    for path in remove_orphans():
        log.warning("removed an orphaned segment", extra={"path": str(path)})
    return ShmSegment(layout.size_bytes)


def layout_to_proto(layout: PoolLayout) -> pb.PoolLayout:
    """Write a layout for the draft worker."""
    return pb.PoolLayout(
        num_pages=layout.num_pages,
        page_size=layout.page_size,
        num_kv_layers=layout.num_kv_layers,
        num_kv_heads=layout.num_kv_heads,
        head_size=layout.head_size,
        hidden_size=layout.hidden_size,
        num_exit_slots=layout.num_exit_slots,
        max_rows=layout.max_rows,
        dtype=layout.dtype_name,
    )


def segment_handle(segment: Segment, size_bytes: int) -> pb.SegmentHandle:
    """Return what names a segment to another process."""
    if isinstance(segment, ShmSegment):
        return pb.SegmentHandle(shm_path=str(segment.path), size_bytes=size_bytes)
    if isinstance(segment, CudaSegment):
        export = segment.export
        ipc = pb.CudaIpcHandle(
            handle=export.handle,
            device_uuid=export.device_uuid,
            offset_bytes=export.offset_bytes,
            torch_metadata=export.torch_metadata,
        )
        return pb.SegmentHandle(cuda_ipc=ipc, size_bytes=size_bytes)
    raise Internal("a split cell needs a segment that another process can map")
