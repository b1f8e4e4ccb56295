"""Device memory that the workers of a cell share. Knows nothing of what lies in it.

On a CPU a segment is a file in /dev/shm, mapped by both. The owner holds an exclusive file lock on
it while it lives; so a starting worker can tell orphans (lock free) from segments in use, whatever
pid namespace they come from. On a GPU it is a block of device memory: `cuda_segment`. A cell within
one process needs neither.
"""

import fcntl
import os
import secrets
from pathlib import Path
from typing import Protocol

import torch

from shared.errors import Internal, StaleHandle

SHM_DIR = Path("/dev/shm")
PREFIX = "shortstack-"


class Segment(Protocol):
    """A block of memory as bytes."""

    bytes_S: torch.Tensor

    def close(self) -> None:
        """Give the memory back; the owner's close removes it."""
        ...


class ShmSegment:
    """A segment in /dev/shm, owned (created) by this process."""

    def __init__(self, size_bytes: int) -> None:
        self.path, self._fd = _create_locked()
        try:
            # Reserve now: a tmpfs that runs full later kills the process with SIGBUS.
            os.posix_fallocate(self._fd, 0, size_bytes)
            self.bytes_S = _map_file(self.path, size_bytes)
        except OSError as error:
            free = os.statvfs(SHM_DIR)
            self.close()
            raise Internal(
                f"/dev/shm cannot hold the pool of {size_bytes} bytes ({error.strerror}; "
                f"{free.f_bavail * free.f_frsize} bytes free): enlarge it (shm_size in compose) "
                "or lower SHORTSTACK_VERIFY__NUM_PAGES"
            ) from None

    def close(self) -> None:
        """Unlink the file and give up the lock; mappings live on until their tensors go."""
        if self._fd < 0:
            return
        self.path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1


class AttachedShmSegment:
    """A segment of another process of the same user, mapped."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        _check_foreign(path, size_bytes)
        self.bytes_S = _map_file(path, size_bytes)

    def close(self) -> None:
        """Nothing to give back: the mapping goes with the last tensor."""


class LocalSegment:
    """Memory of this process alone, for a cell without a second process."""

    def __init__(self, size_bytes: int, device: torch.device) -> None:
        self.bytes_S = torch.zeros(size_bytes, dtype=torch.uint8, device=device)

    def close(self) -> None:
        """Nothing to give back."""


def _create_locked() -> tuple[Path, int]:
    """Create a segment's file and lock it.

    Between the two a starting worker may take it for an orphan and remove it; then make another.
    """
    while True:
        path = SHM_DIR / f"{PREFIX}{os.getuid()}-{secrets.token_hex(8)}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return path, fd
        os.close(fd)


def _map_file(path: Path, size_bytes: int) -> torch.Tensor:
    return torch.from_file(str(path), shared=True, size=size_bytes, dtype=torch.uint8)


def _check_foreign(path: Path, size_bytes: int) -> None:
    """Refuse anything but a segment of ours: a peer names the path."""
    if path.parent != SHM_DIR or not path.name.startswith(f"{PREFIX}{os.getuid()}-"):
        raise StaleHandle(f"{path} is no segment of this user")
    try:
        status = path.lstat()
    except FileNotFoundError:
        raise StaleHandle(f"{path} is gone: its owner has ended") from None
    if status.st_uid != os.getuid() or not path.is_file() or path.is_symlink():
        raise StaleHandle(f"{path} is no plain file of this user")
    if status.st_size != size_bytes:
        raise StaleHandle(f"{path} has {status.st_size} bytes, the layout asks for {size_bytes}")


def remove_orphans() -> list[Path]:
    """Remove this user's segments whose owner is gone; return them.

    Whoever removes a segment takes its lock first, so a living owner's is never touched.
    """
    removed = []
    for path in SHM_DIR.glob(f"{PREFIX}{os.getuid()}-*"):
        fd = _try_lock(path)
        if fd is not None:
            path.unlink(missing_ok=True)
            os.close(fd)
            removed.append(path)
    return removed


def hold_lock(path: Path) -> int:
    """Create a file and lock it for as long as this process lives; return its descriptor."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def is_lock_free(path: Path) -> bool:
    """Say whether nobody holds the lock of a file: its owner is gone (a missing file too)."""
    if not path.exists():
        return True
    fd = _try_lock(path)
    if fd is None:
        return not path.exists()
    os.close(fd)
    return True


def _try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock of a file; None if another does or it is gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd
