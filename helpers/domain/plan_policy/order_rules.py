"""Rules on order and room: capacity before consumers, and enough of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.domain.errors import QuantityError
from helpers.domain.plan_policy.findings import Finding
from helpers.domain.plan_policy.object_rules import CONTAINER_LISTS, pod_specs
from helpers.domain.plan_policy.plan import CAPACITY_STEP, CONSUMER_STEPS, GATE_STEP, SEATED_OUTPUT, Change, Plan
from helpers.domain.quantity import Quantity


@dataclass(frozen=True)
class PlannedCapacity:
    """What a step's trigger says of the nodes: `{entry: MiB of one node}`, and of all nodes that are always there."""

    resource: str
    of_one_mib: Mapping[str, int]
    always_there_mib: Mapping[str, int]


def consumers_behind_gate(plan: Plan) -> Iterator[Finding]:
    """A plan that makes consumers runs the gate, and each of them waits for it."""
    consumers = [one for one in plan.changes if one.is_made and is_consumer(one)]
    gates = [gate for gate in plan.steps(GATE_STEP) if gate.is_made]
    behind = set().union(*(plan.behind(gate.address) for gate in gates))
    for one in consumers:
        if one.address not in behind:
            said = "is not behind the gate" if gates else "no gate runs in this plan"
            yield Finding(plan.name, "consumers-behind-gate", one.address, "", said)


def capacity_before_consumers(plans: Sequence[Plan]) -> Iterator[Finding]:
    """No plan writes capacity after another has made consumers, and gates wait for what is written."""
    earlier = ""
    written: dict[str, str] = {
        str(step.triggers().get("capacity")): plan.name for plan in plans for step in plan.steps(CAPACITY_STEP)
    }
    for plan in plans:
        for step in plan.steps(CAPACITY_STEP):
            if step.is_made and earlier:
                said = f"comes after the consumers of {earlier}"
                yield Finding(plan.name, "capacity-before-consumers", step.address, "", said)
        for gate in plan.steps(GATE_STEP):
            if written and gate.is_made and str(gate.triggers().get("capacity")) not in written:
                said = f"waits for another capacity than {', '.join(sorted(set(written.values())))} writes"
                yield Finding(plan.name, "capacity-before-consumers", gate.address, "triggers.capacity", said)
        if any(one.is_made and is_consumer(one) for one in plan.changes):
            earlier = earlier or plan.name


def advertised_covers_seated(plan: Plan) -> Iterator[Finding]:
    """The gate's numbers against what always-on tenants hold, and against each single pod."""
    for gate in plan.steps(GATE_STEP):
        rule, capacity = "advertised-covers-seated", planned_capacity(gate)
        if capacity is None:
            yield Finding(plan.name, rule, gate.address, "triggers.capacity", "cannot be read")
            continue
        yield from _seated(plan, rule, capacity)
        most_mib = max(capacity.of_one_mib.values(), default=0)
        for one in plan.changes:
            for place, mib in asked_mib(one, capacity.resource):
                if mib is None or mib > most_mib:
                    said = "cannot be read" if mib is None else f"{mib} MiB, no node advertises more than {most_mib}"
                    yield Finding(plan.name, rule, one.address, place, said)


def _seated(plan: Plan, rule: str, capacity: PlannedCapacity) -> Iterator[Finding]:
    seated = plan.outputs.get(SEATED_OUTPUT)
    where = f"output.{SEATED_OUTPUT}"
    if not isinstance(seated, Mapping):
        yield Finding(plan.name, rule, where, "", "absent, so what always-on tenants hold is unknown")
        return
    for node, mib in sorted(seated.items()):
        there_mib = capacity.always_there_mib.get(node)
        if there_mib is None:
            yield Finding(plan.name, rule, where, node, "the gate knows no such nodes")
        elif not isinstance(mib, int) or mib > there_mib:
            yield Finding(plan.name, rule, where, node, f"{mib} MiB, {there_mib} are advertised")


def is_consumer(change: Change) -> bool:
    """Whether its pods ask for an extended resource or have a claim, or it is a step for budget or replicas."""
    if change.arguments in CONSUMER_STEPS:
        return True
    for _, pod in pod_specs(change.manifest or {}):
        if pod.get("resourceClaims") or any("/" in name for _, resources in _resources(pod) for name in resources):
            return True
    return False


def planned_capacity(step: Change) -> PlannedCapacity | None:
    """What the step's `capacity` trigger says; None where it says nothing that can be read."""
    try:
        document = json.loads(step.triggers()["capacity"])
        nodes = {str(one["name"]): (one["advertised_mib"], one["min_nodes"]) for one in document["nodes"]}
        resource = str(document["resource"])
    except (KeyError, TypeError, ValueError):
        return None
    if not all(isinstance(number, int) for pair in nodes.values() for number in pair):
        return None
    return PlannedCapacity(
        resource,
        {name: mib for name, (mib, _) in nodes.items()},
        {name: mib * count for name, (mib, count) in nodes.items()},
    )


def asked_mib(change: Change, resource: str) -> Iterator[tuple[str, int | None]]:
    """MiB that one pod asks for, and where; None where the number cannot be read."""
    if change.arguments == CONSUMER_STEPS[0]:
        text = change.triggers().get("budget_mib")
        yield "triggers.budget_mib", int(text) if isinstance(text, str) and text.isdecimal() else None
    for place, pod in pod_specs(change.manifest or {}):
        amounts = [limits[resource] for kind, limits in _resources(pod) if kind == "limits" and resource in limits]
        if amounts:
            yield place, _sum_mib(amounts)


def _sum_mib(amounts: Sequence[Any]) -> int | None:
    try:
        return sum(Quantity.parse(str(amount)).as_count("a pod") for amount in amounts)
    except QuantityError:
        return None


def _resources(pod: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for kind in CONTAINER_LISTS:
        for container in pod.get(kind) or ():
            resources = container.get("resources") if isinstance(container, Mapping) else None
            for name in ("limits", "requests"):
                found = resources.get(name) if isinstance(resources, Mapping) else None
                if isinstance(found, Mapping):
                    yield name, found
