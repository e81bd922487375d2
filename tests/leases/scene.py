"""The settings of tests with processes: one card of 14000 MiB that a real exporter's text measures."""

from __future__ import annotations

from typing import Any

from helpers.domain.lanes.settings import CoordinatorSettings
from helpers.domain.leases.settings import CardRule, NodeRule
from lab.small_exporter import LabExporter
from tests.fakes.lanes import settings
from tests.fakes.leases import holder_rule, lane_rule, lease_settings

ADVERTISED_MIB = 14000
TTL_SECONDS = 8.0


def card_settings(url: str, exporter: LabExporter, **fields: Any) -> CoordinatorSettings:
    """The trainer may lease all of the card, in the lanes `ask` (realtime) and `day` (batch)."""
    card = CardRule(gpu_index=0, advertised_mib=ADVERTISED_MIB)
    exporter_url = f"http://127.0.0.1:{exporter.port}/metrics"
    node = NodeRule(node="desk", exporter_url=exporter_url, floor_mib=800, cards=(card,))
    block: dict[str, Any] = {"nodes": (node,), "ttl_seconds": TTL_SECONDS, "lane_nodes": {}}
    leases = lease_settings(holder_rule(room_mib=ADVERTISED_MIB), **(block | fields))
    lanes = (lane_rule("ask", lane_class="realtime"), lane_rule("day"))
    base = settings(*lanes, ttl_seconds=2.0, poll_seconds=0.5, leases=leases)
    return base.model_copy(update={"redis": base.redis.model_copy(update={"url": url})})
