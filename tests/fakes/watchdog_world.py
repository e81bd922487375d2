"""A T4 with tenants, its exporter and the watchdog on it, on one clock that tests own.

Acts run inline: while one sleeps, the world goes on (`FakeClock.when_slept`), so a whole recycle is
one call, and nothing depends on threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from helpers.domain.estate.watchdog import ReleaseHook
from helpers.domain.watchdog.decisions import Decision, Reason
from helpers.domain.watchdog.facts import ContainerUse, GpuSample
from helpers.domain.watchdog.settings import TenantRule, WatchdogSettings
from helpers.domain.watchdog.trace import Frame
from helpers.ports.cluster import ObjectRef
from helpers.ports.watchdog_telemetry import ExporterTarget, Scrape
from helpers.services.watchdog import Watchdog, WatchdogPorts
from helpers.services.watchdog_pods import PodReading
from helpers.services.watchdog_targets import ExplicitTargets
from tests.fakes.cluster import FakeCluster
from tests.fakes.outside import FakeClock, FakeEvents, FakeLeadership, FakeLog
from tests.fakes.watchdog_ports import FakeActs, FakeHooks, FakeWatchdogMetrics
from tests.fakes.world import RESOURCE, node

NODE = "t4"
UUID = "GPU-t4"
TARGET = ExporterTarget(NODE, "http://127.0.0.1:1/metrics")
PHYSICAL_MIB, RESERVED_MIB, FLOOR_MIB = 15360, 450, 1536
BUDGETS_MIB = {"immich-ml": 3000, "frigate": 2000, "ollama": 5000}
GROWN = "immich-ml/immich-ml-5d9c-0"  # the pod that `incident` lets grow


def rule(name: str, **more: Any) -> TenantRule:
    given = {"namespace": name, "kind": "Deployment", "workload": name, "container": "main"}
    return TenantRule.model_validate({**given, "name": name, "budget_mib": BUDGETS_MIB[name], **more})


def settings(rules: Iterable[TenantRule] | None = None, **more: Any) -> WatchdogSettings:
    tenants = tuple(rules) if rules is not None else tuple(rule(name) for name in BUDGETS_MIB)
    return WatchdogSettings.model_validate({"floor_mib": FLOOR_MIB, "dry_run": False, "tenants": tenants, **more})


def tenant_pod(tenant: str, ordinal: int = 0, *, budget: str | None = None, **metadata: Any) -> dict[str, Any]:
    """A Deployment's pod as the API shows it; `budget` as the resource's limit is spelled."""
    amount = {RESOURCE: str(BUDGETS_MIB.get(tenant, 0)) if budget is None else budget}
    resources = {"limits": amount, "requests": dict(amount)} if budget != "" else {}
    owner = {"kind": "ReplicaSet", "name": f"{tenant}-5d9c", "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{tenant}-5d9c-{ordinal}",
            "namespace": tenant,
            "labels": {"pod-template-hash": "5d9c"},
            "ownerReferences": [owner],
            **metadata,
        },
        "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "x", "resources": resources}]},
        "status": {"phase": "Running", "podIP": "10.0.0.7", "startTime": "2026-06-01T00:00:00Z"},
    }


def pod_ref(tenant: str, ordinal: int = 0) -> ObjectRef:
    return ObjectRef("v1", "Pod", f"{tenant}-5d9c-{ordinal}", tenant)


@dataclass
class FakeExporter:
    """The node's exporter. `used_mib` is `{(namespace, pod): MiB}`; `fault` spoils the answer."""

    clock: FakeClock
    used_mib: dict[tuple[str, str], int] = field(default_factory=dict)
    unattributed_mib: int = 0
    fault: Callable[[GpuSample], GpuSample | str | None] = lambda sample: sample
    asked_count: int = 0
    skew_seconds: float = 0.0
    frozen_at: datetime | None = None
    forgotten: list[ExporterTarget] = field(default_factory=list)

    def scrape(self, targets: Iterable[ExporterTarget]) -> tuple[Scrape, ...]:
        found = []
        for target in targets:
            self.asked_count += 1
            seen = self.fault(self.sample())
            if isinstance(seen, GpuSample):
                found.append(Scrape(target, (seen,)))
            else:
                found.append(Scrape(target, None, seen or "silent", lied=seen is not None))
        return tuple(found)

    def forget(self, targets: Iterable[ExporterTarget]) -> None:
        self.forgotten += targets

    def sample(self) -> GpuSample:
        used_mib = sum(self.used_mib.values()) + self.unattributed_mib
        at = self.frozen_at or self.clock.now_at() + timedelta(seconds=self.skew_seconds)
        return GpuSample(
            node=NODE,
            gpu="0",
            uuid=UUID,
            sampled_at=at,
            ok=True,
            total_mib=PHYSICAL_MIB,
            used_mib=used_mib,
            free_mib=PHYSICAL_MIB - RESERVED_MIB - used_mib,
            reserved_mib=RESERVED_MIB,
            pods=tuple(ContainerUse(ns, pod, "main", mib) for (ns, pod), mib in self.used_mib.items() if mib),
            unattributed_mib=self.unattributed_mib,
        )


class FakeTrace:
    """Remembers the looks."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def record(self, frame: Frame) -> None:
        self.frames.append(frame)


class World:
    """Everything; `second` watchdogs may share cluster, clock and acts."""

    def __init__(self, given: WatchdogSettings | None = None, *, grace_seconds: float = 2.0) -> None:
        self.settings = given or settings()
        self.clock, self.log, self.events = FakeClock(), FakeLog(), FakeEvents()
        self.cluster = FakeCluster()
        self.cluster.terminating_until = self._grace_ends
        self.cluster.add(node(NODE))
        self.exporter = FakeExporter(self.clock)
        self.acts = FakeActs()
        self.leadership, self.hooks = FakeLeadership(), FakeHooks()
        self.metrics, self.trace = FakeWatchdogMetrics(), FakeTrace()
        self.grace_seconds = grace_seconds
        self.later: list[Callable[[], None]] = []
        self.stopped = False
        self.clock.when_slept = self.go_on
        self.watchdog = self.another(self.leadership)

    def another(self, leadership: FakeLeadership, given: WatchdogSettings | None = None) -> Watchdog:
        """A further watchdog process on the same world."""
        chosen = given or self.settings
        ports = WatchdogPorts(
            cluster=self.cluster,
            leadership=leadership,
            exporters=self.exporter,
            targets=ExplicitTargets(frozenset({TARGET})),
            acts=self.acts,
            hooks=self.hooks,
            events=self.events,
            metrics=self.metrics,
            clock=self.clock,
            log=self.log,
            recorder=self.trace,
            spawn=lambda work: work(),
        )
        return Watchdog(ports, chosen, PodReading(chosen, RESOURCE, "gpumem.io"), stop=lambda: self.stopped)

    def add(self, tenant: str, used_mib: int, ordinal: int = 0, **pod: Any) -> str:
        """A running pod that holds memory; its uid."""
        manifest = self.cluster.add(tenant_pod(tenant, ordinal, **pod))
        self.exporter.used_mib[tenant, manifest["metadata"]["name"]] = used_mib
        return str(manifest["metadata"]["uid"])

    def use(self, tenant: str, used_mib: int, ordinal: int = 0) -> None:
        self.exporter.used_mib[tenant, f"{tenant}-5d9c-{ordinal}"] = used_mib

    def go_on(self) -> None:
        """What happens while somebody sleeps: terminating pods end, and what the test queued."""
        self.end_what_is_due()
        for work in self.later:
            work()
        self.sync()

    def end_what_is_due(self) -> None:
        """Terminating pods whose grace period is over are gone."""
        for pod in self.pods():
            ends = pod["metadata"].get("deletionTimestamp")
            stuck = "stuck" in (pod["metadata"].get("annotations") or {})
            if ends and not stuck and datetime.fromisoformat(ends) <= self.clock.now_at():
                self.end(pod["metadata"]["namespace"], pod["metadata"]["name"])

    def end(self, namespace: str, name: str) -> None:
        """A pod is gone, and its memory is free."""
        self.cluster.remove(ObjectRef("v1", "Pod", name, namespace))
        self.exporter.used_mib.pop((namespace, name), None)

    def sync(self, watchdog: Watchdog | None = None) -> None:
        """What the pod watch would have told."""
        calls = list(self.cluster.calls)
        (watchdog or self.watchdog).pods.fresh(NODE)
        self.cluster.calls[:] = calls

    def pods(self) -> list[dict[str, Any]]:
        calls = list(self.cluster.calls)
        found = self.cluster.list(ObjectRef("v1", "Pod"))
        self.cluster.calls[:] = calls
        return found

    def look(self, watchdog: Watchdog | None = None, *, after_seconds: float = 5.0) -> tuple[Decision, ...]:
        """One interval later: a pass, if this process leads."""
        one = watchdog or self.watchdog
        self.clock.advance(after_seconds)
        self.end_what_is_due()
        self.sync(one)
        if not one.take_over():
            return ()
        one.samples.follow({TARGET}, self.clock.monotonic_seconds())
        return one.pass_over()

    def reasons(self, decisions: Iterable[Decision]) -> set[Reason]:
        return {decision.reason for decision in decisions}

    def evicted(self) -> list[str]:
        """Pods that the API was asked to evict or delete, dry runs aside."""
        verbs = ("create Pod/eviction Pod ", "delete Pod Pod ")
        return [
            call.removeprefix(verb)
            for call in self.cluster.calls
            for verb in verbs
            if call.startswith(verb) and not call.endswith("(dry run)")
        ]

    def _grace_ends(self) -> str:
        ends_at = self.clock.now_at() + timedelta(seconds=self.grace_seconds)
        return ends_at.strftime("%Y-%m-%dT%H:%M:%SZ")


def incident(given: WatchdogSettings | None = None, **more: Any) -> World:
    """The T4 of 2026-06-02: immich-ml holds 10.7 GiB of 3000 MiB, the others are within their budgets."""
    world = World(given, **more)
    world.add("immich-ml", 10957)
    world.add("frigate", 1900)
    world.add("ollama", 900)
    return world


def hook(**more: Any) -> ReleaseHook:
    return ReleaseHook.model_validate({"port": 8080, "path": "/release", **more})


def outcomes(world: World) -> list[tuple[str, str, int | None]]:
    return world.metrics.recycles


def event_reasons(world: World) -> list[str]:
    return [reason for _, _, reason, _ in world.events.recorded]
