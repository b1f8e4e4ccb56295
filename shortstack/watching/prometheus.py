"""A real Prometheus over a stack: started with our rules, asked over its HTTP interface."""

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from shared.errors import Internal
from shortstack.watching.expressions import ALERTS

ANSWER_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 10.0


def find_prometheus() -> str | None:
    """Return the program, if it is installed."""
    return shutil.which("prometheus")


class Prometheus:
    """One process, with its data in a folder of its own; a context manager."""

    def __init__(
        self, program: str, folder: Path, port: int, targets: Mapping[str, Sequence[str]]
    ) -> None:
        """Start it.

        Args:
            program: its path.
            folder: exists; takes configuration, data and log.
            port: free, on this machine.
            targets: `host:port` of what is scraped, by job.
        """
        self._url = f"http://127.0.0.1:{port}"
        self._log_path = folder / "prometheus.log"
        config = folder / "prometheus.yml"
        config.write_text(json.dumps(_config(targets)), encoding="utf-8")
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--enable-feature=exemplar-storage",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def is_ready(self) -> bool:
        """Say whether it answers.

        Raises:
            Internal: it has ended; with the end of its log.
        """
        if self._process.poll() is not None:
            tail = self._log_path.read_text(errors="replace")[-2000:]
            raise Internal(f"prometheus ended with status {self._process.returncode}:\n{tail}")
        with (
            suppress(OSError),
            urllib.request.urlopen(f"{self._url}/-/ready", timeout=ANSWER_TIMEOUT_S) as answer,
        ):
            return bool(answer.status == 200)
        return False

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that an expression gives now.

        Raises:
            ValueError: Prometheus cannot evaluate it, and says why.
        """
        found: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules with their health, as far as they have been evaluated."""
        groups = self._get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def _get(self, path: str, **fields: str) -> Any:
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(fields)}"
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_TIMEOUT_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from None


def _config(targets: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return a configuration that scrapes fast; JSON is YAML, too."""
    jobs = [
        {"job_name": job, "static_configs": [{"targets": list(addresses)}]}
        for job, addresses in targets.items()
    ]
    pace = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    return {"global": pace, "rule_files": [str(ALERTS)], "scrape_configs": jobs}
