"""A segment in GPU memory: one plain cudaMalloc block, exported once as a CUDA IPC handle.

The block is never freed while the cell lives. Devices are compared by UUID, since their indices
differ between processes. The calls into torch are private ones, as torch has no public way to name
a block to a process that it did not start; constraints.txt pins the version they were written for.
Writes are made visible by waiting for the stream before every message (`LayerStack.synchronize`).
"""

import os
from dataclasses import dataclass
from typing import Any

import torch

from shared.errors import Internal, StaleHandle


@dataclass(frozen=True)
class CudaExport:
    """What another process needs to open a block of GPU memory.

    torch_metadata is what torch's own reference counting wants: counter file, offset, event.
    """

    handle: bytes
    device_uuid: str
    offset_bytes: int
    torch_metadata: bytes


class CudaSegment:
    """A block of this process that others may open."""

    def __init__(self, size_bytes: int, device: torch.device) -> None:
        if "expandable_segments:True" in os.environ.get("PYTORCH_CUDA_ALLOC_CONF", ""):
            raise Internal("expandable_segments cannot be shared; unset PYTORCH_CUDA_ALLOC_CONF")
        self.bytes_S = torch.zeros(size_bytes, dtype=torch.uint8, device=device)
        self.export = _export(self.bytes_S)

    def close(self) -> None:
        """Nothing to give back before the process ends."""


class AttachedCudaSegment:
    """A block of another process, opened."""

    def __init__(self, export: CudaExport, size_bytes: int) -> None:
        device = _device_of(export.device_uuid)
        counter, counter_offset, event = export.torch_metadata.split(b"\0", 2)
        torch.cuda.init()
        storage = torch.UntypedStorage._new_shared_cuda(
            device.index,
            export.handle,
            size_bytes,
            export.offset_bytes,
            counter,
            int(counter_offset),
            event,
            True,
        )
        self.bytes_S = torch.empty(0, dtype=torch.uint8, device=device).set_(storage)

    def close(self) -> None:
        """Nothing to give back: the block is closed with the last tensor."""


def _export(bytes_S: torch.Tensor) -> CudaExport:
    shared: tuple[Any, ...] = bytes_S.untyped_storage()._share_cuda_()
    _, handle, _, offset_bytes, counter, counter_offset, event, _ = shared
    metadata = b"\0".join((counter, str(counter_offset).encode(), event))
    uuid = str(torch.cuda.get_device_properties(bytes_S.device).uuid)
    return CudaExport(handle, uuid, offset_bytes, metadata)


def _device_of(uuid: str) -> torch.device:
    for index in range(torch.cuda.device_count()):
        if str(torch.cuda.get_device_properties(index).uuid) == uuid:
            return torch.device("cuda", index)
    raise StaleHandle(f"GPU {uuid} is not visible here: check CUDA_VISIBLE_DEVICES")
