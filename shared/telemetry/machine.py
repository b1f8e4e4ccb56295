"""The machine that numbers were measured on, and the memory of processes on it."""

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PACKAGES = ("shortstack-serve", "torch", "transformers", "grpcio", "redis")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a number means nothing without. load_average is that of the minute before."""

    cpu_model: str
    num_cores: int
    memory_bytes: int
    system: str
    versions: dict[str, str]
    load_average: float


def describe_machine() -> Machine:
    """Return this machine."""
    return Machine(
        cpu_model=_cpu_model(),
        num_cores=psutil.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()}",
        versions={"python": platform.python_version()} | _package_versions(),
        load_average=os.getloadavg()[0],
    )


def _cpu_model() -> str:
    """Return the processor's name: from Linux where it tells, else as Python has it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def pss_bytes(pids: Iterable[int]) -> int | None:
    """Return the proportional set size of processes together: shared pages are counted once.

    None on systems that do not tell (all but Linux).
    """
    total = 0
    for pid in pids:
        memory = psutil.Process(pid).memory_full_info()
        if not hasattr(memory, "pss"):
            return None
        total += memory.pss
    return total
