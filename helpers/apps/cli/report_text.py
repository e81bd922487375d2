"""The allocation report as a person reads it."""

from __future__ import annotations

from typing import Any

from helpers.apps.cli.output import ratio_text, table
from helpers.domain.report import ComparedNode, Comparison, NodeRow, Report, TenantRow

_RIGHT = ("pods", "shares", "of shares", "budget MiB", "of memory")


def report_text(report: Report, output: str) -> str:
    """One block a node: what it has, who was promised what, and the cards."""
    return "\n\n".join(_node_text(node, report, output) for node in report.nodes)


def _node_text(node: NodeRow, report: Report, output: str) -> str:
    parts = [_headline(node, output)]
    if node.shown_mib is not None:
        parts.append(_shown(node, report.resource))
    rows = [*_tenant_rows(node, live=report.live), *_sum_rows(node, live=report.live)]
    parts.append(table(rows, output, right=_RIGHT))
    if len(node.cards) > 1:
        parts.append(table(_card_rows(node), output, right=("advertised MiB", "seated MiB", "slack MiB")))
    if node.live_cards:
        parts.append(table(_live_card_rows(node), output, right=("offered MiB", "claimed MiB")))
    reasons = [f"{row.tenant}: {row.state.reason}" for row in node.tenants if row.state and row.state.reason]
    return "\n\n".join([*parts, *reasons])


def _headline(node: NodeRow, output: str) -> str:
    mark = "### " if output == "markdown" else ""
    machines = f"{node.nodes_count} machine(s)" if node.nodes_count else "an elastic pool, no machine is always there"
    return (
        f"{mark}{node.name}: {machines}, each {', '.join(node.gpus)}; physical {node.physical_mib} MiB, "
        f"advertised {node.advertised_mib} MiB, {node.shares_count} shares of {node.share_resource}"
    )


def _shown(node: NodeRow, resource: str) -> str:
    shown = node.shown_mib or {}
    lines = [f"{name} shows {resource} = {'nothing' if mib is None else mib}" for name, mib in sorted(shown.items())]
    return "\n".join(lines) or "no such machine in the cluster"


def _tenant_rows(node: NodeRow, *, live: bool) -> list[dict[str, Any]]:
    ordered = sorted(node.tenants, key=lambda row: row.elastic)
    return [_row(row.tenant, row.namespace, str(row.pods_count), node, row, live=live) for row in ordered]


def _row(name: str, namespace: str, pods: str, node: NodeRow, row: TenantRow, *, live: bool) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "tenant": name,
        "namespace": namespace,
        "pods": pods,
        "shares": str(row.shares_sum_count),
        "of shares": ratio_text(row.shares_sum_count, node.shares_count),
        "budget MiB": str(row.budget_sum_mib),
        "of memory": ratio_text(row.budget_sum_mib, node.advertised_mib),
        "held by": row.held_by,
        "card": "elastic" if row.elastic else ",".join(row.cards),
    }
    if live:
        cells["state"] = row.state.text() if row.state else "unknown"
    return cells


def _sum_rows(node: NodeRow, *, live: bool) -> list[dict[str, Any]]:
    rows = []
    free_shares = node.shares_count - node.always_on_shares_count
    for name, shares, mib in (
        ("available", free_shares, node.slack_mib),
        ("total", node.shares_count, node.advertised_mib),
    ):
        cells = {
            "tenant": name,
            "namespace": "",
            "pods": "",
            "shares": str(shares),
            "of shares": ratio_text(shares, node.shares_count),
            "budget MiB": str(mib),
            "of memory": ratio_text(mib, node.advertised_mib),
            "held by": "",
            "card": "",
        }
        rows.append({**cells, "state": ""} if live else cells)
    return rows


def _card_rows(node: NodeRow) -> list[dict[str, Any]]:
    return [
        {
            "card": row.card,
            "model": row.model,
            "advertised MiB": str(row.advertised_mib),
            "seated MiB": str(row.seated_mib),
            "slack MiB": str(row.slack_mib),
            "tenants": ", ".join(row.tenants),
        }
        for row in node.cards
    ]


def _live_card_rows(node: NodeRow) -> list[dict[str, Any]]:
    return [
        {
            "card": row.card,
            "uuid": row.uuid,
            "offered MiB": str(row.offered_mib),
            "claimed MiB": str(row.claimed_mib),
            "tenants": ", ".join(row.tenants),
        }
        for row in node.live_cards
    ]


def comparison_text(comparison: Comparison, output: str) -> str:
    """One block a node, before and after side by side."""
    return "\n\n".join(_compared_node_text(node, output) for node in comparison.nodes)


def _compared_node_text(node: ComparedNode, output: str) -> str:
    rows = [
        {
            "tenant": row.tenant,
            "namespace": row.namespace,
            "shares before": _amount(row.shares_before),
            "after": _amount(row.shares_after),
            "of shares": ratio_text(row.shares_after or 0, node.shares_count_after or 0),
            "budget MiB before": _amount(row.budget_before_mib),
            "after ": _amount(row.budget_after_mib),
            "of memory": ratio_text(row.budget_after_mib or 0, node.advertised_after_mib or 0),
        }
        for row in node.tenants
    ]
    mark = "### " if output == "markdown" else ""
    memory = f"{_amount(node.advertised_before_mib)} → {_amount(node.advertised_after_mib)} MiB"
    shares = f"{_amount(node.shares_count_before)} → {_amount(node.shares_count_after)} shares"
    headline = f"{mark}{node.name}: advertised {memory}, {shares}"
    right = ("shares before", "after", "of shares", "budget MiB before", "after ", "of memory")
    return f"{headline}\n\n{table(rows, output, right=right)}"


def _amount(number: int | None) -> str:
    return "-" if number is None else str(number)
