"""An attachment: the verify worker's memory as this process maps it, good for one boot.

Checks everything that a peer names before it is used: model, layout, segment, slots.
"""

from pathlib import Path

from shared.errors import InvalidRequest, ModelMismatch, StaleHandle, Unsupported
from shared.model.config import DTYPES
from shared.model.cuda_segment import AttachedCudaSegment, CudaExport
from shared.model.kv_pool import KVPool, PoolLayout
from shared.model.layer_stack import LayerStack
from shared.model.segment import AttachedShmSegment, Segment
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import RoundTask


class Attachment:
    """One verify worker's pool, mapped."""

    def __init__(self, request: pb.AttachRequest, stack: LayerStack) -> None:
        self._check_model(request.model, stack)
        _check_adapters(request, stack)
        self.boot_id = request.boot_id
        self._max_context_len = stack.config.max_context_len
        self.layout = _layout_from_proto(request.layout, stack)
        if request.segment.size_bytes != self.layout.size_bytes:
            raise InvalidRequest(
                f"segment has {request.segment.size_bytes} bytes, its layout makes "
                f"{self.layout.size_bytes}",
                field="segment.size_bytes",
            )
        segment = _open_segment(request.segment, stack.device.type)
        self.pool = KVPool(segment, self.layout)

    def _check_model(self, model: pb.ModelInfo, stack: LayerStack) -> None:
        own = stack.config.fingerprint
        if model.model_fingerprint != own:
            raise ModelMismatch(
                f"verify worker runs {model.model_name} ({model.model_fingerprint}), this draft "
                f"worker {own}: start both with the same model directory and dtype"
            )

    def check_task(self, task: RoundTask, boot_id: int) -> None:
        """Refuse handles of another boot and rows that do not fit.

        Raises:
            StaleHandle: says what does not fit.
        """
        if boot_id != self.boot_id:
            raise StaleHandle(f"handle of boot {boot_id}, attached to boot {self.boot_id}")
        if task.exit_slot >= self.layout.num_exit_slots:
            raise StaleHandle(f"exit-state slot {task.exit_slot} lies outside the region")
        if task.decision.max_nodes + 1 > self.layout.max_rows:
            raise StaleHandle(f"{task.decision.max_nodes} drafts do not fit the region's rows")
        end = task.committed_len + task.decision.max_nodes
        if end > self.pool.page_table(task.extents).num_positions:
            raise StaleHandle(f"positions up to {end} lie outside the session's pages")
        # A tree needs as many slots as nodes, but as many positions as it is deep.
        end = task.committed_len + task.decision.max_draft_len
        if end > self._max_context_len:
            raise StaleHandle(f"positions up to {end} lie beyond the context of the model")

    @property
    def check_word(self) -> int:
        """What the owner wrote: reading it proves that the memory is the same."""
        return int(self.pool.check_word.item())


def _check_adapters(request: pb.AttachRequest, stack: LayerStack) -> None:
    """Refuse other draft adapters: each worker writes their KV for the other."""
    own = {each.exit_layer: each.digest for each in stack.adapter_weights}
    theirs = {each.exit_layer: each.digest for each in request.draft_adapters}
    if own != theirs:
        raise ModelMismatch(
            f"verify worker holds the draft adapters {theirs or 'none'}, this draft worker "
            f"{own or 'none'} (exit layer: digest): start both with the same "
            "SHORTSTACK_MODEL__DRAFT_ADAPTERS"
        )


def _open_segment(handle: pb.SegmentHandle, device_type: str) -> Segment:
    """Map what a peer named, if it lies on this worker's kind of device."""
    location = handle.WhichOneof("location")
    if device_type == "cpu" and location == "shm_path":
        return AttachedShmSegment(Path(handle.shm_path), handle.size_bytes)
    if device_type == "cuda" and location == "cuda_ipc":
        ipc = handle.cuda_ipc
        export = CudaExport(ipc.handle, ipc.device_uuid, ipc.offset_bytes, ipc.torch_metadata)
        return AttachedCudaSegment(export, handle.size_bytes)
    raise Unsupported(
        f"a draft worker on {device_type} cannot map {location or 'nothing'}: start both workers "
        "with the same SHORTSTACK_MODEL__DEVICE"
    )


def _layout_from_proto(message: pb.PoolLayout, stack: LayerStack) -> PoolLayout:
    config = stack.config
    layout = PoolLayout(
        num_pages=message.num_pages,
        page_size=message.page_size,
        num_kv_layers=message.num_kv_layers,
        num_kv_heads=message.num_kv_heads,
        head_size=message.head_size,
        hidden_size=message.hidden_size,
        num_exit_slots=message.num_exit_slots,
        max_rows=message.max_rows,
        dtype_name=message.dtype,
    )
    own = (config.num_kv_heads, config.head_size, config.hidden_size, config.dtype_name)
    theirs = (layout.num_kv_heads, layout.head_size, layout.hidden_size, layout.dtype_name)
    if own != theirs or layout.num_kv_layers < stack.num_kv_layers or message.dtype not in DTYPES:
        raise ModelMismatch(f"pool layout {theirs} does not fit this worker's model {own}")
    if min(layout.num_pages, layout.page_size, layout.num_exit_slots, layout.max_rows) < 1:
        raise InvalidRequest("layout holds a zero", field="layout")
    return layout
