"""A tenant's card and server as they answered last, and what follows for its lanes. Pure.

Memory is believed as it is measured: a lane whose model is not loaded waits until the model of another
lane has left the memory *and* the card shows that much free. Unknown free memory holds nobody here:
an exporter that does not answer makes the tenant away, which closes its lanes anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from helpers.domain.lanes.decision import is_busy
from helpers.domain.lanes.facts import Situation
from helpers.domain.lanes.settings import CoordinatorSettings, EngineRule, LaneRule


@dataclass(frozen=True)
class EngineFacts:
    """One look at a tenant's engine.

    `problem`: why server or exporter did not answer, or no node is Ready; empty: all that are declared do. `loaded`:
    `{model: MiB}`, None where no server is declared or it did not answer. `free_mib`: the most free
    memory that one card of the node shows, None where it was not measured. `pods_mib`: what each pod there
    uses, `{(namespace, pod): MiB}`.
    """

    tenant: str
    problem: str = ""
    loaded: Mapping[str, int] | None = None
    free_mib: int | None = None
    pods_mib: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class Unload:
    """Ask the tenant's server to take `model` out of the memory."""

    tenant: str
    model: str
    why: str


def why_away(rule: EngineRule, facts: EngineFacts, silent_seconds: float) -> str | None:
    """Why the tenant's card counts as away; None while it counts as there.

    `silent_seconds`: how long ago it last answered in full.
    """
    if not facts.problem or silent_seconds < rule.engine.away_after_seconds:
        return None
    return f"{facts.problem} (for {silent_seconds:.0f} s)"


def why_no_node(entry: str, nodes: Sequence[Mapping[str, Any]]) -> str:
    """Why the card of node entry `entry` cannot be there; empty where one of its `nodes` (Node objects) is Ready."""
    if not nodes:
        return f"no node of {entry} is in the cluster"
    found = [(str(node["metadata"]["name"]), _ready(node)) for node in nodes]
    if any(condition.get("status") == "True" for _, condition in found):
        return ""
    said = [f"{name} is NotReady ({condition.get('reason', 'no condition')})" for name, condition in sorted(found)[:3]]
    return f"node {', '.join(said)}" + (f" and {len(found) - len(said)} more" if len(found) > len(said) else "")


def _ready(node: Mapping[str, Any]) -> Mapping[str, Any]:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == "Ready"), {})


def measured_mib(facts: Mapping[str, EngineFacts]) -> dict[str, int]:
    """`{model: MiB}` of all that is loaded, as the servers report it; a report of 0 is none."""
    return {model: mib for one in facts.values() for model, mib in (one.loaded or {}).items() if mib > 0}


def held_lanes(settings: CoordinatorSettings, now: Situation, facts: Mapping[str, EngineFacts]) -> dict[str, str]:
    """`{lane: why}` of batch lanes that may not begin yet."""
    held: dict[str, str] = {}
    for rule in settings.lanes:
        engine = facts.get(rule.lane.tenant)
        if rule.is_batch and engine is not None and (why := _why_held(rule, now, engine)):
            held[rule.name] = why
    return held


def to_unload(settings: CoordinatorSettings, now: Situation, facts: Mapping[str, EngineFacts]) -> tuple[Unload, ...]:
    """What has to leave the memory now; a model that a job still uses is left alone."""
    found: dict[tuple[str, str], Unload] = {}
    for engine in settings.engines:
        tenant, one = engine.engine.tenant, facts.get(engine.engine.tenant)
        if one is None or not one.loaded:
            continue
        rules = [rule for rule in settings.lanes if rule.lane.tenant == tenant and rule.lane.model is not None]
        for unload in (*_for_the_next(engine, rules, now, one), *_after_work(rules, now, one)):
            if not _in_use(unload.model, rules, now):
                found.setdefault((tenant, unload.model), unload)
    return tuple(found.values())


def _why_held(rule: LaneRule, now: Situation, engine: EngineFacts) -> str:
    model = rule.lane.model
    if model is None or engine.loaded is None or model in engine.loaded or active_count(rule, now):
        return ""
    if rule.one_model and engine.loaded:
        return f"{', '.join(sorted(engine.loaded))} is still in memory, and {rule.lane.tenant} keeps one model"
    if engine.free_mib is not None and engine.free_mib < rule.need_mib:
        return f"{model} needs {rule.need_mib} MiB, and {engine.free_mib} MiB are measured free"
    return ""


def _for_the_next(engine: EngineRule, rules: list[LaneRule], now: Situation, facts: EngineFacts) -> Iterator[Unload]:
    wanted = next((rule for rule in rules if is_busy(rule, now)), None)
    if not engine.one_model or wanted is None:
        return
    for model in sorted(facts.loaded or {}):
        if model != wanted.lane.model:
            yield Unload(facts.tenant, model, f"{wanted.name} needs {wanted.lane.model}")


def _after_work(rules: list[LaneRule], now: Situation, facts: EngineFacts) -> Iterator[Unload]:
    for rule in rules:
        model = str(rule.lane.model)
        if rule.lane.cleanup != "unload" or model not in (facts.loaded or {}) or is_busy(rule, now):
            continue
        since = now.busy_seconds.get(rule.name)
        rested = since is None or now.now_seconds - since >= rule.lane.settle_seconds
        others = any(is_busy(other, now) for other in rules if other.lane.model == model)
        if rested and not others:
            yield Unload(facts.tenant, model, f"{rule.name} has come to rest")


def _in_use(model: str, rules: list[LaneRule], now: Situation) -> bool:
    return any(
        active_count(rule, now) or rule.name in now.leased_mib.get(rule.lane.tenant, {})
        for rule in rules
        if rule.lane.model == model
    )


def active_count(rule: LaneRule, now: Situation) -> int:
    """Jobs of the lane that run."""
    return sum(now.queues[queue].active_count for queue in rule.lane.queues if queue in now.queues)
