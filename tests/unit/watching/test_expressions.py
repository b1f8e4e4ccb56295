"""Dashboards and rules ask for what services expose; every rule has its paragraph."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from shared.telemetry.signals.row import Kind
from shared.telemetry.signals.table import OWN_SIGNALS
from shortstack.watching.expressions import (
    ALERTS,
    DASHBOARDS,
    REPOSITORY,
    Expression,
    alert_expressions,
    alert_rules,
    dashboard_expressions,
    faults_of,
    names_in,
)

DEPLOY = REPOSITORY / "deploy"
ALL = [*dashboard_expressions(), *alert_expressions()]


@pytest.mark.parametrize("expression", ALL, ids=[each.place for each in ALL])
def test_an_expression_asks_for_what_services_expose(expression: Expression) -> None:
    assert not list(faults_of(expression))


def test_dashboards_show_every_signal_of_ours() -> None:
    shown = {name for each in dashboard_expressions() for name, _ in names_in(each.text)}
    for signal in OWN_SIGNALS:
        histogram = {f"{signal.name}_bucket", f"{signal.name}_sum"}
        names = histogram if signal.kind is Kind.HISTOGRAM else {signal.name}
        # Totals of what is shown by its parts.
        is_shown_otherwise = signal.name == "vllm:spec_decode_num_draft_tokens_total"
        assert names & shown or is_shown_otherwise, signal.name


def test_the_dashboards_are_fresh() -> None:
    result = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "dashboards.py", "--check"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("path", sorted(DASHBOARDS.glob("*.json")), ids=lambda path: path.name)
def test_panels_of_a_dashboard_do_not_overlap(path: object) -> None:
    model = json.loads((DASHBOARDS / str(path)).read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in model["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in model["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def anchor_of(heading: str) -> str:
    """Return the anchor that a heading has on the web."""
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("rule", alert_rules(), ids=[rule["alert"] for rule in alert_rules()])
def test_a_rule_says_what_it_is_and_has_its_paragraph(rule: dict[str, dict[str, str]]) -> None:
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in ("page", "ticket", "info")
    document, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    parts = {anchor_of(part.partition("\n")[0]): part for part in text.split("\n### ")[1:]}
    assert all(word in parts[anchor] for word in ("**Means:**", "**Look:**", "**Do:**"))


def test_every_paragraph_of_the_runbook_has_a_rule() -> None:
    text = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    anchors = {anchor_of(part.partition("\n")[0]) for part in text.split("\n### ")[1:]}
    urls = [str(rule["annotations"]["runbook_url"]) for rule in alert_rules()]
    assert {url.partition("#")[2] for url in urls} == anchors


def test_provisioning_is_yaml_that_names_our_datasource() -> None:
    paths = sorted(DEPLOY.glob("grafana/provisioning/*/*.yml"))
    assert len(paths) == 2
    (datasource,) = yaml.safe_load(paths[1].read_text(encoding="utf-8"))["datasources"]
    used = {
        target["datasource"]["uid"]
        for path in DASHBOARDS.glob("*.json")
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]
        for target in panel.get("targets", ())
    }
    assert used == {datasource["uid"]}


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_accepts_configuration_and_rules() -> None:
    for kind, path in (("rules", ALERTS), ("config", ALERTS.with_name("prometheus.yml"))):
        result = subprocess.run(
            ["promtool", "check", kind, path], capture_output=True, text=True, timeout=30
        )
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("rate(shortstack_round_total[5m])", "nobody exposes shortstack_round_total"),
        ("sum(shortstack_round_seconds)", "nobody exposes shortstack_round_seconds"),
        ('shortstack_sessions{status="x"}', "shortstack_sessions has no label status"),
        ("sum by (session_id) (shortstack_sessions)", "nothing in it has a label session_id"),
        ("1 + 2", "asks for nothing"),
    ],
)
def test_what_nobody_exposes_is_found(text: str, fault: str) -> None:
    assert list(faults_of(Expression("here", text))) == [f"here: {fault}"]


def test_names_and_labels_are_read_out_of_an_expression() -> None:
    text = (
        'histogram_quantile(0.9, sum by (le) (rate(a_bucket{x=~"y{2}|and", z!="b"}[5m])))'
        " / on (instance) group_left vllm:c unless d offset 5m > 0.5"
    )
    names = names_in(text)
    assert [name for name, _ in names if name not in ("group_left",)] == [
        "a_bucket",
        "vllm:c",
        "d",
    ]
    assert names[0][1] == {"x", "z"}


def test_variables_are_filled_in_as_if_all_were_chosen() -> None:
    expression = Expression("", 'rate(a{cell=~"$cell"}[$__rate_interval])')
    assert expression.with_values("30s") == 'rate(a{cell=~".*"}[30s])'
