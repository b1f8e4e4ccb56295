"""Shared segments: created, attached, refused, and swept up behind a killed owner."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from shared.errors import Internal, StaleHandle
from shared.model.segment import (
    PREFIX,
    SHM_DIR,
    AttachedShmSegment,
    LocalSegment,
    ShmSegment,
    hold_lock,
    is_lock_free,
    remove_orphans,
)

OWNER = """
import sys
from shared.model import segment
segment.PREFIX = sys.argv[1]
owned = segment.ShmSegment(8192)
print(owned.path, flush=True)
sys.stdin.read()
"""

READER = """
import sys
from pathlib import Path
from shared.model.segment import AttachedShmSegment
segment = AttachedShmSegment(Path(sys.argv[1]), 8192)
print(int(segment.bytes_S[100]), flush=True)
segment.bytes_S[101] = 7
"""


@pytest.fixture
def own_prefix(monkeypatch: pytest.MonkeyPatch) -> str:
    """A beginning of names that no other process of this machine creates or sweeps up."""
    prefix = f"{PREFIX}test-{os.getpid()}-"
    monkeypatch.setattr("shared.model.segment.PREFIX", prefix)
    return prefix


@pytest.fixture
def segment() -> Iterator[ShmSegment]:
    """A segment of this process."""
    owned = ShmSegment(8192)
    yield owned
    owned.close()


@pytest.fixture
def owner(own_prefix: str) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A living process that owns a segment."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, own_prefix],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    path = Path(process.stdout.readline().strip())
    yield process, path
    if process.poll() is None:
        process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    path.unlink(missing_ok=True)


def test_a_new_segment_is_zeroed_private_and_as_large_as_asked(segment: ShmSegment) -> None:
    assert segment.path.parent == SHM_DIR
    assert segment.path.stat().st_size == 8192
    assert segment.path.stat().st_mode & 0o777 == 0o600
    assert segment.bytes_S.shape == (8192,)
    assert not segment.bytes_S.any()


def test_another_process_sees_and_writes_the_same_bytes(segment: ShmSegment) -> None:
    segment.bytes_S[100] = 42
    done = subprocess.run(
        [sys.executable, "-c", READER, str(segment.path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "42"
    assert segment.bytes_S[101] == 7


def test_closing_removes_the_file_and_leaves_mappings_alone(segment: ShmSegment) -> None:
    attached = AttachedShmSegment(segment.path, 8192)
    segment.close()
    segment.close()
    assert not segment.path.exists()
    attached.bytes_S[0] = 1
    assert segment.bytes_S[0] == 1


def test_a_segment_of_another_size_is_refused(segment: ShmSegment) -> None:
    with pytest.raises(StaleHandle, match="has 8192 bytes, the layout asks for 4096"):
        AttachedShmSegment(segment.path, 4096)


def _symlink_to(segment: ShmSegment) -> Path:
    link = SHM_DIR / f"{PREFIX}{os.getuid()}-link-{os.getpid()}"
    link.symlink_to(segment.path)
    return link


@pytest.mark.parametrize(
    "path",
    [
        Path("/etc/passwd"),
        SHM_DIR / "something-else",
        SHM_DIR / f"{PREFIX}{os.getuid() + 1}-0123456789abcdef",
        SHM_DIR / f"{PREFIX}{os.getuid()}-x" / ".." / "else",
        SHM_DIR / f"{PREFIX}{os.getuid()}-does-not-exist",
    ],
    ids=["elsewhere", "another name", "another user", "a way around", "missing"],
)
def test_a_path_that_is_no_segment_of_this_user_is_refused(path: Path) -> None:
    with pytest.raises(StaleHandle):
        AttachedShmSegment(path, 8192)


def test_a_link_to_a_segment_is_refused(segment: ShmSegment) -> None:
    link = _symlink_to(segment)
    try:
        with pytest.raises(StaleHandle, match="no plain file"):
            AttachedShmSegment(link, 8192)
    finally:
        link.unlink()


def test_a_pool_that_does_not_fit_says_what_to_enlarge(own_prefix: str) -> None:
    free = os.statvfs(SHM_DIR)
    too_much = (free.f_blocks + 1024) * free.f_frsize
    with pytest.raises(Internal, match="shm_size"):
        ShmSegment(too_much)
    assert not list(SHM_DIR.glob(f"{own_prefix}*"))


def test_a_segment_in_use_is_no_orphan(
    owner: tuple["subprocess.Popen[str]", Path], segment: ShmSegment
) -> None:
    removed = remove_orphans()
    assert segment.path.exists() and segment.path not in removed
    assert owner[1].exists() and owner[1] not in removed


def test_the_segment_of_a_killed_owner_is_removed(
    owner: tuple["subprocess.Popen[str]", Path],
) -> None:
    process, path = owner
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert path.exists()
    assert path in remove_orphans()
    assert not path.exists()


def test_a_liveness_lock_is_free_once_its_holder_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "worker.lock"
    assert is_lock_free(path), "a missing file has no holder"
    fd = hold_lock(path)
    assert not is_lock_free(path)
    assert not is_lock_free(path), "asking does not take the lock"
    os.close(fd)
    assert is_lock_free(path)
    assert path.exists()


def test_a_lock_that_is_held_cannot_be_taken_twice(tmp_path: Path) -> None:
    fd = hold_lock(tmp_path / "worker.lock")
    with pytest.raises(BlockingIOError):
        hold_lock(tmp_path / "worker.lock")
    os.close(fd)


def test_creating_while_others_sweep_never_loses_a_segment() -> None:
    """A sweeper may lock a file between its creation and its owner's lock."""
    sweeper = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from shared.model.segment import remove_orphans\n"
            "print('go', flush=True)\n"
            "while True: remove_orphans()",
        ],
        stdout=subprocess.PIPE,
    )
    assert sweeper.stdout is not None
    sweeper.stdout.readline()
    try:
        end_s = time.monotonic() + 1.0
        while time.monotonic() < end_s:
            segment = ShmSegment(4096)
            assert segment.path.exists()
            segment.close()
    finally:
        sweeper.kill()
        sweeper.wait()
        sweeper.stdout.close()


def test_a_local_segment_knows_no_file() -> None:
    assert LocalSegment(16, torch.device("cpu")).bytes_S.tolist() == [0] * 16
