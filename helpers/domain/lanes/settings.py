"""The coordinator's settings document: what its Deployment mounts, and what a plain process makes of the estate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from helpers.domain.demand_gates.rules import GateRule, gate_rules
from helpers.domain.estate.coordinator import Coordinator, Engine, Immich, Lane, Redis
from helpers.domain.estate.model import Estate
from helpers.domain.estate.watchdog import ReleaseHook
from helpers.domain.lanes.windows import is_open, next_change_at
from helpers.domain.leases.settings import LeaseSettings, lease_settings


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LaneRule(_Settings):
    """A lane as the estate declares it, with what it takes from its tenant.

    `need_mib`: what its jobs need; `room_mib`: the tenant's budget, which all its lanes share.
    """

    lane: Lane
    need_mib: int
    room_mib: int
    one_model: bool = False
    """The tenant keeps one model in memory at a time."""

    @property
    def name(self) -> str:
        """The lane's name."""
        return self.lane.name

    @property
    def is_batch(self) -> bool:
        """Whether it may be paused at all."""
        return self.lane.workload_class == "batch"

    def may_run(self, at: datetime) -> bool:
        """Whether one of its windows is open at `at`, and long enough for a job."""
        return is_open(self.lane.windows, at, self._lead)

    def next_change_at(self, at: datetime) -> datetime | None:
        """When that changes next; None where it never does."""
        return next_change_at(self.lane.windows, at, self._lead)

    @property
    def _lead(self) -> timedelta:
        return timedelta(seconds=self.lane.lead_seconds)

    @property
    def rank(self) -> tuple[bool, int, str]:
        """Sorts those that go first to the front: realtime, then by priority, then by name."""
        return (self.is_batch, -self.lane.priority, self.lane.name)


class EngineRule(_Settings):
    """An engine, and the node entry on which its tenant runs."""

    engine: Engine
    node: str
    node_labels: dict[str, str] = {}
    """What its nodes carry in a cluster; empty: whether they are Ready is nobody's question."""
    models_mib: dict[str, int] = {}
    one_model: bool = False


class HookRule(_Settings):
    """A tenant that is asked to yield: by what, and which workload's pods."""

    tenant: str
    namespace: str
    kind: str
    workload: str
    container: str
    hook: ReleaseHook


class CoordinatorSettings(_Settings):
    """All that one coordinator decides by. Lanes stand in their order."""

    redis: Redis
    prefix: str
    lanes: tuple[LaneRule, ...]
    engines: tuple[EngineRule, ...] = ()
    hooks: tuple[HookRule, ...] = ()
    """Of the tenants whose batch lanes are asked to yield."""
    immich: Immich | None = None
    gates: tuple[GateRule, ...] = ()
    leases: LeaseSettings | None = None
    dry_run: bool = False
    ttl_seconds: float
    poll_seconds: float
    retry_after_seconds: int
    batch_retry_seconds: int

    def queues(self) -> tuple[str, ...]:
        """Every queue of every lane, and no other."""
        return tuple(queue for rule in self.lanes for queue in rule.lane.queues)

    def lane_of(self, queue: str) -> LaneRule | None:
        """The lane that `queue` is in; None for a queue that is not ours."""
        return next((rule for rule in self.lanes if queue in rule.lane.queues), None)

    def rivals(self, rule: LaneRule) -> tuple[LaneRule, ...]:
        """Lanes that the batch lane `rule` cannot run beside, though it goes after them: it yields to each alone."""
        return tuple(
            other
            for other in self.lanes
            if other.lane.tenant == rule.lane.tenant
            and other.rank < rule.rank
            and other.need_mib + rule.need_mib > rule.room_mib
        )

    def to_json(self) -> str:
        """One line, keys sorted: the same estate gives the same text for ever."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":"))


def coordinator_settings(estate: Estate) -> CoordinatorSettings | None:
    """The settings of a valid `estate`; None where it declares no coordinator."""
    block = estate.coordinator
    if block is None:
        return None
    return CoordinatorSettings(
        redis=block.redis,
        prefix=block.prefix,
        lanes=_lanes(estate, block),
        engines=_engines(estate, block.engines),
        hooks=_hooks(estate, block),
        immich=block.immich,
        gates=gate_rules(estate, "coordinator"),
        leases=lease_settings(estate),
        dry_run=block.dry_run,
        ttl_seconds=block.ttl_seconds,
        poll_seconds=block.poll_seconds,
        retry_after_seconds=block.retry_after_seconds,
        batch_retry_seconds=block.batch_retry_seconds,
    )


def _lanes(estate: Estate, block: Coordinator) -> tuple[LaneRule, ...]:
    rules = []
    for lane in block.lanes:
        tenant = estate.tenant(lane.tenant)
        if tenant is None:
            raise KeyError(lane.tenant)  # validate excludes that
        models = {model.name: model.vram_mib for model in tenant.models}
        need_mib = lane.vram_mib if lane.vram_mib is not None else models[str(lane.model)] if lane.queues else 0
        one = tenant.models_loaded == "one"
        rules.append(LaneRule(lane=lane, need_mib=need_mib, room_mib=tenant.budget_mib, one_model=one))
    return tuple(sorted(rules, key=lambda rule: rule.rank))


def _engines(estate: Estate, engines: Sequence[Engine]) -> tuple[EngineRule, ...]:
    rules = []
    for engine in engines:
        tenant = estate.tenant(engine.tenant)
        if tenant is None:
            raise KeyError(engine.tenant)  # validate excludes that
        rules.append(
            EngineRule(
                engine=engine,
                node=tenant.node,
                node_labels=_node_labels(estate, tenant.node) if engine.watch_node else {},
                models_mib={model.name: model.vram_mib for model in tenant.models},
                one_model=tenant.models_loaded == "one",
            )
        )
    return tuple(rules)


def _node_labels(estate: Estate, name: str) -> dict[str, str]:
    return next(node.node_selector() for node in estate.nodes if node.name == name)


def _hooks(estate: Estate, block: Coordinator) -> tuple[HookRule, ...]:
    asked = {lane.tenant for lane in block.lanes if lane.on_realtime == "yield"}
    return tuple(
        HookRule(
            tenant=tenant.name,
            namespace=tenant.namespace,
            kind=tenant.workload.kind,
            workload=tenant.workload.name,
            container=tenant.workload.container,
            hook=tenant.watchdog.release_hook,
        )
        for tenant in estate.tenants
        if tenant.name in asked and tenant.watchdog.release_hook is not None
    )
