"""Scrapes a running stack with a real Prometheus, and asks it what dashboards and rules would."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

from shared.errors import Internal
from shortstack.client import Client
from shortstack.stack import Stack
from shortstack.watching.expressions import alert_rules, dashboard_expressions
from shortstack.watching.prometheus import Prometheus
from shortstack.watching.traffic import make_traffic

# Scrapes come every half second, and a speed needs two of them.
RATE_INTERVAL = "30s"
POLL_S = 0.2


def job_targets(metrics_urls: Mapping[str, str]) -> dict[str, list[str]]:
    """Return what is to be scraped by job, from where a stack's children serve their metrics."""
    targets: dict[str, list[str]] = {}
    for name, url in metrics_urls.items():
        job = f"shortstack-{name.partition('-')[0]}"
        targets.setdefault(job, []).append(url.removeprefix("http://").removesuffix("/metrics"))
    return targets


async def watch_faults(
    stack: Stack, program: str, folder: Path, prompt: str, timeout_s: float
) -> list[str]:
    """Return what a Prometheus over a stack has no answer to; nothing is well.

    Traffic is sent meanwhile, as a speed needs a change.

    Args:
        stack: runs, with metrics.
        program: Prometheus.
        folder: for what that writes.
        prompt: text that the model takes.
        timeout_s: for all panels to have an answer.

    Raises:
        Internal: Prometheus does not run.
    """
    with Prometheus(program, folder, _free_port(), job_targets(stack.metrics_urls)) as prometheus:
        deadline_s = monotonic() + timeout_s
        await _poll(prometheus.is_ready, deadline_s, "an answer of Prometheus")
        await _poll(lambda: _are_all_up(prometheus), deadline_s, "a scrape of every process")
        async with Client(stack.target) as client:
            faults = ["nothing was asked"]
            while faults and monotonic() < deadline_s:
                await make_traffic(client, prompt)
                await asyncio.sleep(POLL_S)
                faults = panel_faults(prometheus)
        await _poll(lambda: _are_rules_known(prometheus), deadline_s, "the rules' evaluation")
        return [*faults, *rule_faults(prometheus)]


def panel_faults(prometheus: Prometheus) -> list[str]:
    """Return the panels' expressions that give an error or nothing."""
    faults = []
    for expression in dashboard_expressions():
        try:
            series = prometheus.ask(expression.with_values(RATE_INTERVAL))
        except ValueError as error:
            faults.append(f"{expression.place}: {error}")
        else:
            if not series:
                faults.append(f"{expression.place}: no data")
    return faults


def rule_faults(prometheus: Prometheus) -> list[str]:
    """Return the alert rules that cannot be evaluated or fire over a healthy stack."""
    faults = []
    for rule in prometheus.rules():
        if rule["health"] != "ok":
            faults.append(f"{rule['name']}: {rule.get('lastError', 'not evaluated')}")
        elif rule["state"] == "firing":
            faults.append(f"{rule['name']}: fires")
    return faults


def _are_all_up(prometheus: Prometheus) -> bool:
    series = prometheus.ask("up")
    return bool(series) and all(each["value"][1] == "1" for each in series)


def _are_rules_known(prometheus: Prometheus) -> bool:
    rules = prometheus.rules()
    return len(rules) == len(alert_rules()) and all(rule["health"] != "unknown" for rule in rules)


async def _poll(holds: Callable[[], bool], deadline_s: float, what: str) -> None:
    while not holds():
        if monotonic() > deadline_s:
            raise Internal(f"no {what} in time")
        await asyncio.sleep(POLL_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
