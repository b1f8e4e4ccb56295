"""A /dev/shm of one's own for one process: a small tmpfs in a mount namespace that ends with it.

Nothing of the machine's own /dev/shm is filled. It takes root, or user namespaces that anybody may
make; where there is neither, the drills that need it are skipped.
"""

import asyncio
import os
import shutil
from dataclasses import replace

from shortstack.children import ChildPlan
from shortstack.drill.errors import CannotRun

SCRIPT = 'mount -t tmpfs -o size="$1" shortstack-drill /dev/shm && shift && exec "$@"'


def _command(size_bytes: int) -> tuple[str, ...]:
    as_root = () if os.getuid() == 0 else ("--map-root-user",)
    return ("unshare", "--mount", *as_root, "sh", "-c", SCRIPT, "sh", str(size_bytes))


async def require() -> None:
    """Try it.

    Raises:
        CannotRun: this machine does not let us; says why.
    """
    if shutil.which("unshare") is None:
        raise CannotRun("there is no `unshare` (util-linux) to give one process a small /dev/shm")
    process = await asyncio.create_subprocess_exec(
        *_command(4096),
        "true",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await process.communicate()
    if process.returncode:
        reason = complaint.decode(errors="replace").strip()
        raise CannotRun(f"no mount namespace for a small /dev/shm here: {reason}")


def within(plan: ChildPlan, size_bytes: int) -> ChildPlan:
    """Return a plan whose process sees a /dev/shm of its own of that size."""
    unshare = shutil.which("unshare") or "unshare"
    return replace(plan, command=(unshare, *_command(size_bytes)[1:], *plan.command))
