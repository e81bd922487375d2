"""The Grafana dashboard, as the JSON that Grafana imports.

First what needs a person (unknown cards, waiting pods, recycles), then one row a card: the tenants'
memory stacked, against their budgets, what is advertised, what is physical, and where pressure begins.
"""

from __future__ import annotations

from typing import Any

from helpers.domain.estate.model import Estate
from helpers.domain.estate.monitoring import DASHBOARD_UID, Monitoring
from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.rendering import monitoring_queries as q
from helpers.rendering.dashboard_jobs import job_panels
from helpers.rendering.dashboard_panels import SOURCE, Page, Query, fixed, line, override, series, stat
from helpers.rendering.dra import runs_claims_agent
from helpers.rendering.monitoring_alerts import knows_numbered_nodes, watchdog_late_seconds

# Of Grafana 10 and newer; later ones migrate it on import.
SCHEMA_VERSION = 39
_ON_CARD = '{uuid=~"$card"}'
_POD_LEGEND = "{{namespace}}/{{pod}}"
_LINES = {"budgets": "orange", "advertised": "blue", "physical": "dark-red", "pressure above": "red"}


def dashboard(estate: Estate, settings: WatchdogSettings, monitoring: Monitoring) -> dict[str, Any]:
    """The dashboard's JSON model. It holds no amounts but the floor, which is the watchdog's."""
    page = Page()
    _overview(page, estate, settings)
    _tenants(page, estate)
    if estate.manager is not None:
        job_panels(page, estate.manager)
    _card(page, settings)
    return {
        "uid": DASHBOARD_UID,
        "title": "GPU memory budgets",
        "tags": ["gpumem", "gpu"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": [_firing_alerts()]},
        "links": [{"type": "link", "title": "Runbooks", "url": monitoring.runbook_base_url, "targetBlank": True}],
        "panels": page.panels,
    }


def _overview(page: Page, estate: Estate, settings: WatchdogSettings) -> None:
    page.row("Now")
    bad = {"steps": [{"color": "green", "value": None}, {"color": "red", "value": 1}], "mode": "absolute"}
    plain = {"steps": [{"color": "blue", "value": None}], "mode": "absolute"}
    late = bad | {
        "steps": [{"color": "green", "value": None}, {"color": "red", "value": watchdog_late_seconds(settings)}]
    }
    up = q.one_a_card(q.CARD_UP)
    # Not `or vector(0)`: none is 0 only while the source of the figure answers, else it is unknown.
    stats: tuple[tuple[str, str, str, dict[str, Any], str], ...] = (
        ("Cards", f"count({up})", "none", plain, "Cards that an exporter knows."),
        ("Cards with unknown use", f"count({up} == 0) or 0 * count({up})", "none", bad, "Unknown is not zero."),
        (
            "Pods that find no memory",
            f"count({q.unplaced_mib(estate)}) or 0 * count(count by (node) ({q.NODE_ALLOCATABLE}))",
            "none",
            bad,
            "From kube-state-metrics; elastic tenants included.",
        ),
        ("Watchdog's last pass", f"time() - max({q.LAST_PASS})", "s", late, "Age of the newest finished pass."),
        ("Tenants in dry-run", f"sum(max by (tenant) ({q.DRY_RUN}))", "none", plain, "Only watched, never recycled."),
        *([_unnumbered(estate, up, bad)] if knows_numbered_nodes(estate) else []),
        *([_unoffered(bad)] if runs_claims_agent(estate) and not estate.number_nodes() else []),
    )
    for title, expr, unit, thresholds, text in stats:
        page.panel(stat(title, text, unit, thresholds), Query(expr, instant=True), width=4, height=4)


def _unnumbered(estate: Estate, up: str, bad: dict[str, Any]) -> tuple[str, str, str, dict[str, Any], str]:
    nodes = q.nodes_without_number(estate)
    return "Nodes without their number", f"count({nodes}) or 0 * count({up})", "none", bad, ""


def _unoffered(bad: dict[str, Any]) -> tuple[str, str, str, dict[str, Any], str]:
    offered = f"max by (node) ({q.AGENT_DEVICES})"
    expr = f"count({offered} == 0) or 0 * count({offered})"
    return "Nodes that offer no card", expr, "none", bad, "Agents that publish nothing; a silent one has an alert."


def _tenants(page: Page, estate: Estate) -> None:
    page.row("Tenants")
    page.panel(
        series("Over budget", "Used minus budget; above zero is overshoot.", fill=10, threshold=0),
        Query(f"{q.used_by_pod()} - on ({q.POD}) {q.budget_of_pod()}", _POD_LEGEND),
        width=8,
        height=8,
    )
    page.panel(
        series("Pending: memory asked for", "Pods that the scheduler finds no place for.", fill=30, stack=True),
        Query(q.unplaced_mib(estate), _POD_LEGEND),
        width=8,
        height=8,
    )
    page.panel(
        series("Recycles", "Acts of the watchdog; dry-run ones are what it would have done.", unit="none", bars=True),
        Query(q.recycles("", "$__rate_interval"), "{{tenant}}: {{outcome}}"),
        width=8,
        height=8,
    )


def _card(page: Page, settings: WatchdogSettings) -> None:
    page.row("$card", repeat="card")
    budgets = (
        f"sum by ({q.CARD}) (max by ({q.POD}, {q.CARD}) ({q.POD_USED}{_ON_CARD} * 0 + 1)"
        f" * on ({q.POD}) group_left () ({q.budget_of_pod()}))"
    )
    per_card = f"max by (node) ({q.ADVERTISED}) / count by (node) ({q.one_a_card(q.TOTAL)}) / {q.MIB}"
    usable = f"{q.one_a_card(q.USED + _ON_CARD)} + {q.one_a_card(q.FREE + _ON_CARD)}"
    page.panel(
        _stacked_card(),
        Query(q.used_by_pod_on_card(_ON_CARD), _POD_LEGEND),
        Query(f"{q.one_a_card(q.UNATTRIBUTED + _ON_CARD)} / {q.MIB}", "unattributed"),
        Query(budgets, "budgets"),
        Query(f"{per_card} and on (node) {q.TOTAL}{_ON_CARD}", "advertised"),
        Query(f"{q.one_a_card(q.TOTAL + _ON_CARD)} / {q.MIB}", "physical"),
        Query(f"({usable}) / {q.MIB} - {settings.floor_mib}", "pressure above"),
        width=16,
        height=10,
    )
    page.panel(
        series("Free", f"Under {settings.floor_mib} MiB there is pressure.", fill=10, threshold=settings.floor_mib),
        Query(f"{q.lowest_a_card(q.FREE + _ON_CARD)} / {q.MIB}", "free"),
        width=8,
        height=10,
    )


def _stacked_card() -> dict[str, Any]:
    panel = series(
        "Memory by tenant",
        "Stacked use of each pod. Lines: the sum of their budgets, the node's advertised number for each card, "
        "the card's physical memory, and where the watchdog's floor begins.",
        fill=40,
        stack=True,
    )
    panel["fieldConfig"]["overrides"] = [line(name, color) for name, color in _LINES.items()]
    panel["fieldConfig"]["overrides"].append(override("unattributed", {"color": fixed("gray")}))
    return panel


def _variables() -> list[dict[str, Any]]:
    source = {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "refresh": 1}
    # `.*` for all: a card outside Kubernetes has no node label, and an empty value must still match.
    node = _variable("node", "Node", f"label_values({q.TOTAL}, node)") | {"allValue": ".*"}
    card = _variable("card", "Card", f'label_values({q.TOTAL}{{node=~"$node"}}, uuid)')
    return [source, node, card]


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "includeAll": True,
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"], "selected": True},
        "refresh": 2,
        "sort": 1,
    }


def _firing_alerts() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertstate="firing", alertname=~"GPU.*"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{node}} {{gpu}} {{namespace}} {{pod}} {{tenant}}",
        "tagKeys": "severity",
    }
