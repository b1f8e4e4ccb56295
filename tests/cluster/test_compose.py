"""The services of docker-compose.yml as processes: its environments, commands and health checks.

No container engine is needed: paths of containers become paths of a temporary folder, hosts become
this one, and ports free ones. All else is what a container would be given.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shortstack.stack import STARTED_EVENTS
from tests.cluster.conftest import segments_of
from tests.compose_file import REPOSITORY, ComposeFile
from tests.polling import poll_until
from tests.redis_server import RedisServer

# Each worker loads torch, on machines that may have two cores.
START_TIMEOUT_S = 50.0
END_TIMEOUT_S = 20.0
SERVICES = ("draft", "verify", "gateway")


class ComposedStack:
    """Three services, started as their containers would start them."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        """Give the containers' paths, hosts and ports places on this machine; start nothing."""
        self.compose = ComposeFile()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._folder = folder
        runtime_dir = folder / "run"
        runtime_dir.mkdir(mode=0o700)
        # The longer texts first: a host's port is part of an address.
        self._places = {
            f"redis://redis:{self.compose.values['REDIS_PORT']}/0": redis_url,
            "/run/shortstack": str(runtime_dir),
            "0.0.0.0:": "127.0.0.1:",
            "verify:": "127.0.0.1:",
        }
        self._ports = free_ports(self.compose.values)

    def placed(self, text: str) -> str:
        """Return a text of a container as it is on this machine."""
        if text == "/model":
            return str(self._folder / "model")
        for there, here in self._places.items():
            text = text.replace(there, here)
        address, _, port = text.rpartition(":")
        return f"{address}:{self._ports[port]}" if port in self._ports else text

    def port(self, name: str) -> int:
        """Return where a port of .env is found."""
        return self._ports[self.compose.values[name]]

    def words(self, command: list[str]) -> list[str]:
        """Return a command with this environment's Python and this machine's addresses."""
        python, *rest = command
        assert python == "python"
        return [sys.executable, *(self.placed(word) for word in rest)]

    def start(self, name: str) -> None:
        """Start a service, with nothing of this process's own options in its environment."""
        inherited = {key: text for key, text in os.environ.items() if "SHORTSTACK" not in key}
        environ = {k: self.placed(text) for k, text in self.compose.environment(name).items()}
        with (self._folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                self.words(self.compose.command(name)),
                cwd=REPOSITORY,
                env=inherited | environ,
                stdout=log,
                stderr=log,
            )

    def is_up(self, name: str) -> bool:
        """Say whether a service listens, as its log has it: asking that costs no process."""
        assert self.processes[name].poll() is None, self.log(name)
        return any(f'"event": "{event}"' in self.log(name) for event in STARTED_EVENTS)

    async def is_healthy(self, name: str) -> bool:
        """Run a service's health check."""
        words = self.words(self.compose.health_command(name))
        probe = await asyncio.create_subprocess_exec(*words, cwd=REPOSITORY)
        return await probe.wait() == 0

    def log(self, name: str) -> str:
        """Return what a service has said."""
        return (self._folder / f"{name}.log").read_text()

    def kill(self) -> None:
        """End what still runs."""
        for process in self.processes.values():
            process.kill()
            process.wait()


def free_ports(values: dict[str, str]) -> dict[str, int]:
    """Return a free port of this machine for each port in .env."""
    with ExitStack() as held:
        found = {}
        for name, port in values.items():
            if name.endswith("_PORT"):
                listener = held.enter_context(socket.socket())
                listener.bind(("127.0.0.1", 0))
                found[port] = listener.getsockname()[1]
        return found


@pytest.fixture
def composed(tmp_path: Path, model_dir: Path) -> Iterator[ComposedStack]:
    """A stack with a real Redis; nothing is started yet."""
    redis = RedisServer(tmp_path)
    (tmp_path / "model").symlink_to(model_dir)
    stack = ComposedStack(tmp_path, redis.url)
    yield stack
    stack.kill()
    redis.kill()


async def test_what_compose_starts_answers_a_request_and_ends_cleanly(
    composed: ComposedStack,
) -> None:
    for name in SERVICES:
        composed.start(name)
    for name in SERVICES:
        await poll_until(lambda name=name: composed.is_up(name), START_TIMEOUT_S)
        await poll_until(lambda name=name: composed.is_healthy(name), START_TIMEOUT_S)
    http = f"http://127.0.0.1:{composed.port('HTTP_PORT')}"
    await poll_until(lambda: answer_of(f"{http}/ready") is not None, START_TIMEOUT_S)

    body = {"model": "shortstack-10m", "prompt": "Once", "max_tokens": 8, "temperature": 0}
    answer = await asyncio.to_thread(answer_of, f"{http}/v1/completions", body)
    assert answer is not None
    assert json.loads(answer)["usage"]["completion_tokens"] == 8
    for name in ("GATEWAY", "VERIFY", "DRAFT"):
        url = f"http://127.0.0.1:{composed.port(f'{name}_METRICS_PORT')}/metrics"
        metrics = await asyncio.to_thread(answer_of, url)
        assert metrics is not None and b"shortstack_" in metrics
    shared = [segments_of(composed.processes[name].pid) for name in ("verify", "draft")]
    assert shared[0] and shared[0] == shared[1]

    for name in reversed(SERVICES):
        composed.processes[name].send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(composed.processes[name].wait, END_TIMEOUT_S)
        assert status == 0, composed.log(name)
    assert not any(path.exists() for path in shared[0])


def answer_of(url: str, body: dict[str, object] | None = None) -> bytes | None:
    """Return what a URL answers; None where it does not answer with 200."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text: bytes = answer.read()
            return text
    except OSError:
        return None
