"""Expressions of dashboards and alert rules, and what is wrong with them by the table of signals.

Reads PromQL only as far as names and labels go: what Prometheus itself says of the rest is for
`prometheus`.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shared.telemetry.signals.row import Kind
from shared.telemetry.signals.table import SIGNALS

REPOSITORY = Path(__file__).resolve().parents[2]
DASHBOARDS = REPOSITORY / "deploy" / "grafana" / "dashboards"
ALERTS = REPOSITORY / "deploy" / "prometheus" / "alerts.yml"
# Given to every series by the scrape.
TARGET_LABELS = frozenset({"job", "instance"})
WORDS = frozenset({"and", "or", "unless", "bool", "offset"})
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_CLAUSE = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_NAME = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*)\s*(\(|\{[^}]*\})?")
_LABEL = re.compile(r"\w+(?=\s*[=!])")


@dataclass(frozen=True, slots=True)
class Expression:
    """One expression, and where it stands."""

    place: str
    text: str

    def with_values(self, rate_interval: str) -> str:
        """Return it as Grafana would ask for it, everything chosen."""
        text = self.text.replace("$__rate_interval", rate_interval)
        return re.sub(r"\$\w+", ".*", text)


def dashboard_expressions(folder: Path = DASHBOARDS) -> list[Expression]:
    """Return the expressions of all panels."""
    found = []
    for path in sorted(folder.glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", ()):
                place = f"{path.name}: {panel['title']}: {target['legendFormat']}"
                found.append(Expression(place, target["expr"]))
    return found


def alert_rules(path: Path = ALERTS) -> list[dict[str, Any]]:
    """Return the rules as they are written."""
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alert_expressions(path: Path = ALERTS) -> list[Expression]:
    """Return the expressions of all rules."""
    return [Expression(rule["alert"], rule["expr"]) for rule in alert_rules(path)]


def series_labels() -> dict[str, frozenset[str]]:
    """Return the labels of every series that services expose, by its name."""
    labels = {"up": TARGET_LABELS}
    for signal in SIGNALS:
        own = TARGET_LABELS | set(signal.labels)
        if signal.kind is not Kind.HISTOGRAM:
            labels[signal.name] = own
            continue
        labels[f"{signal.name}_bucket"] = own | {"le"}
        labels[f"{signal.name}_sum"] = labels[f"{signal.name}_count"] = own
    return labels


def names_in(text: str) -> list[tuple[str, frozenset[str]]]:
    """Return the series that an expression asks for, each with the labels that it matches."""
    bare = _RANGE.sub("", _CLAUSE.sub("", _STRING.sub('""', text)))
    found = []
    for name, behind in _NAME.findall(bare):
        if behind != "(" and name not in WORDS:
            found.append((name, frozenset(_LABEL.findall(behind))))
    return found


def faults_of(expression: Expression) -> Iterator[str]:
    """Iterate over what is wrong: series that nobody exposes, labels that they do not have."""
    known = series_labels()
    names = names_in(expression.text)
    if not names:
        yield f"{expression.place}: asks for nothing"
    all_labels: set[str] = set()
    for name, matched in names:
        if name not in known:
            yield f"{expression.place}: nobody exposes {name}"
            continue
        all_labels |= known[name]
        for label in sorted(matched - known[name]):
            yield f"{expression.place}: {name} has no label {label}"
    for label in _clause_labels(expression.text):
        if label not in all_labels:
            yield f"{expression.place}: nothing in it has a label {label}"


def _clause_labels(text: str) -> Iterable[str]:
    clauses = _CLAUSE.findall(_STRING.sub('""', text))
    return [label.strip() for clause in clauses for label in clause.split(",") if label.strip()]
