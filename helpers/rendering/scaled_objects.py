"""Demand gates with `engine: keda` as ScaledObjects, on the metrics of exporter and coordinator."""

from __future__ import annotations

import math
from typing import Any

from helpers.domain import names
from helpers.domain.budget import API_VERSION
from helpers.domain.demand_gates.cron import cron_span, is_always
from helpers.domain.demand_gates.rules import GateRule, gate_rules
from helpers.domain.estate.demand_gates import Keda
from helpers.domain.estate.model import Estate
from helpers.domain.estate.windows import LaneWindow
from helpers.rendering import monitoring_queries as q
from helpers.rendering.objects import address_of

_STEP_SECONDS = 5
# Outside its hours a cron trigger says 0, and in older versions 1; so it is told 2 for inside.
_INSIDE = 2


def scaled_objects(estate: Estate) -> list[dict[str, Any]]:
    """What the template needs for each, in the estate's order."""
    block = estate.coordinator
    if block is None or block.keda is None:
        return []
    return [_scaled_object(estate, block.keda, rule) for rule in gate_rules(estate, "keda")]


def _scaled_object(estate: Estate, keda: Keda, rule: GateRule) -> dict[str, Any]:
    triggers = [_prometheus("room", keda, _room(estate, rule))]
    conditions = ["room > 0"]
    if rule.jobs_lane is not None:
        triggers.append(_prometheus("work", keda, f'max({q.LANE_DEMAND}{{lane="{rule.jobs_lane}"}})'))
        conditions.append("work > 0")
    if windows := _windows(rule):
        triggers += [_cron(f"window{index}", window) for index, window in enumerate(windows)]
        inside = " || ".join(f"window{index} >= {_INSIDE}" for index in range(len(windows)))
        conditions.append(f"({inside})")
    spec = {
        "scaleTargetRef": {"apiVersion": API_VERSION, "kind": rule.workload.kind, "name": rule.workload.workload},
        "pollingInterval": keda.polling_seconds,
        "cooldownPeriod": math.ceil(rule.gate.close_after_seconds),
        "minReplicaCount": 0,
        "maxReplicaCount": 1,
        "advanced": {
            "scalingModifiers": {
                "formula": f"{' && '.join(conditions)} ? 1 : 0",
                "target": "1",
                "activationTarget": "0",
            }
        },
        "triggers": triggers,
    }
    return {
        "address": address_of("scaled-object", rule.name),
        "name": names.scaled_object_name(rule.name),
        "namespace": rule.workload.namespace,
        "annotations": {names.KEDA_PAUSED_ANNOTATION: "true"} if rule.gate.dry_run else {},
        "spec": spec,
    }


def _prometheus(name: str, keda: Keda, query: str) -> dict[str, Any]:
    return {
        "type": "prometheus",
        "name": name,
        "metadata": {
            "serverAddress": keda.prometheus_url,
            "query": query,
            "threshold": "1",
            # No series is not 0: KEDA then leaves the replicas as they are.
            "ignoreNullValues": "false",
        },
    }


def _cron(name: str, window: LaneWindow) -> dict[str, Any]:
    span = cron_span(window)
    metadata = {"timezone": span.time_zone, "start": span.start, "end": span.end, "desiredReplicas": str(_INSIDE)}
    return {"type": "cron", "name": name, "metadata": metadata}


def _windows(rule: GateRule) -> tuple[LaneWindow, ...]:
    return () if any(is_always(window) for window in rule.gate.windows) else rule.gate.windows


def _room(estate: Estate, rule: GateRule) -> str:
    """1 where there is room: before it runs for its need, while it runs for what must stay free."""
    node = f'{{node="{estate.node(rule.node).node_name}"}}'
    tenant = estate.tenant(rule.gate.tenant)
    if tenant is None:
        raise KeyError(rule.gate.tenant)  # validate excludes that
    free = f"max({q.FREE}{node}) / {q.MIB}"
    own = f"(sum({q.used_by_pod(q.pods_of_tenant(tenant))}) or vector(0))"
    settled = (
        f"min_over_time(({free})[{max(_STEP_SECONDS, math.ceil(rule.gate.open_after_seconds))}s:{_STEP_SECONDS}s])"
    )
    opens = f"({settled} >= bool {rule.opens_at_mib}) * ({own} == bool 0)"
    stays = f"({free} >= bool {rule.close_free_mib}) * ({own} > bool 0)"
    # Where the exporter cannot say whose memory is whose, it is not known whether the tenant runs.
    return f"({opens} + {stays}) and on () min({q.ATTRIBUTION_UP}{node}) == 1"
