"""The alert about the agents of budgets per card, for estates that run them."""

from __future__ import annotations

from helpers.domain.estate.model import Estate
from helpers.domain.estate.monitoring import JOB_DRA_AGENT
from helpers.rendering import monitoring_queries as q
from helpers.rendering.alert import Alert

# Beyond a rollout, which replaces one agent after the other, and the start of a machine.
AGENT_FOR_SECONDS = 300
# One error is mended by the next try; the kubelet asks again several times a minute.
ERRORS_WINDOW, LEAST_ERRORS_COUNT = "10m", 3


def claims_agent_alerts(estate: Estate) -> tuple[Alert, ...]:
    """About each node's agent: whether it is there, publishes the cards, and is called by the kubelet."""
    scraped = f'up{{job="{JOB_DRA_AGENT}"}}'
    # A card that cannot be read is the exporter's to tell; the agent taints it.
    errors = q.grown(f'{q.AGENT_ERRORS}{{what!="look"}}', ERRORS_WINDOW)
    parts = [
        ("not_registered", f"max by (node) ({q.AGENT_REGISTERED}) == 0"),
        (
            "not_published",
            f"max by (node) ({q.AGENT_DEVICES}) == 0 unless on (node) max by (node) ({q.AGENT_STANDS_BACK}) == 1",
        ),
        ("failing", f"sum by (node) (max by (node, what, instance) ({errors})) >= {LEAST_ERRORS_COUNT}"),
        ("scrape_failed", f"max by (node) ({scraped}) == 0"),
    ]
    others = ""
    if not estate.number_nodes():  # then the exporter runs on exactly the agents' nodes
        others = f" or {q.TELEMETRY_UP}"
        seen = f'count by (node) ({q.TELEMETRY_UP}{{node!=""}})'
        parts.append(("silent", f"{seen} unless on (node) ({q.AGENT_DEVICES} or {scraped})"))
    if any(node.min_nodes for node in estate.claim_nodes()):  # an elastic pool may be empty, and rightly silent
        parts.append(("absent", f"absent({q.AGENT_DEVICES}) unless on () ({scraped}{others})"))
    return (
        Alert(
            "GPUClaimsAgentDown",
            q.with_cause(parts),
            "critical",
            "Claims on a card's memory are not served{{ with $labels.node }} on node {{ . }}{{ end }}.",
            "Cause {{ $labels.cause }}. What runs there goes on; pods that wait for memory of a card there "
            "find none, or are not started.",
            for_seconds=AGENT_FOR_SECONDS,
        ),
    )
