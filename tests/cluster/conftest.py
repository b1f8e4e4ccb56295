"""A model built in code, and stacks made of real processes."""

from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from shortstack.client import Client
from shortstack.plan import StackConfig
from shortstack.stack import Stack
from tests.cluster.tiny_model import write_tiny_model

# Each worker loads torch, on machines that may have two cores.
START_TIMEOUT_S = 120.0


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def config(model_dir: Path) -> StackConfig:
    """One split cell, one thread per worker; it drafts as it is asked to, whatever that takes."""
    return StackConfig(
        model=model_dir,
        num_threads=1,
        start_timeout_s=START_TIMEOUT_S,
        environ={"SHORTSTACK_VERIFY__SHEDS": "false"},
    )


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared_stack(config: StackConfig) -> AsyncIterator[Stack]:
    """A stack for the tests of a module that do it no harm."""
    async with Stack(config) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared_client(shared_stack: Stack) -> AsyncIterator[Client]:
    """A client of the shared stack."""
    async with Client(shared_stack.target) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def healthy_stack(shared_stack: Stack) -> AsyncIterator[Stack]:
    """The shared stack for a test that does harm: what has died is started again first."""
    for child in shared_stack.poll():
        shared_stack.restart(child.name)
    await shared_stack.wait_until_ready()
    yield shared_stack


def segments_of(pid: int) -> set[Path]:
    """Return the shared memory that a process maps."""
    maps = (entry.path for entry in psutil.Process(pid).memory_maps())
    return {Path(path) for path in maps if path.startswith("/dev/shm/shortstack-")}


def is_gone(pid: int) -> bool:
    """Return whether a process has ended; one that nobody has waited for yet has."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
