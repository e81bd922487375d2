"""Looks at every demand gate in a thread of its own, and scales its workload: the API's pace holds no queue up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from helpers.domain import names
from helpers.domain.budget import API_VERSION
from helpers.domain.demand_gates.decision import GateVerdict, decide
from helpers.domain.demand_gates.facts import GateFacts, GateTimers, LeaseState, WorkloadFacts
from helpers.domain.demand_gates.rules import GateRule
from helpers.domain.errors import ClusterError, Conflict
from helpers.domain.lanes.engines import EngineFacts
from helpers.domain.pod_phase import ENDED
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.ports.events import Events
from helpers.ports.gates import GateLeases, GateMetrics
from helpers.ports.leadership import Leadership
from helpers.ports.log import Log

LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class GatePorts:
    """What the gates work with.

    Attributes:
        engine: What was measured last for a gate's tenant; None: nothing yet.
        demands: `{lane: jobs}` that run or would; a lane that is absent is not known.
    """

    cluster: Cluster
    leases: GateLeases
    leadership: Leadership
    events: Events
    metrics: GateMetrics
    clock: Clock
    log: Log
    engine: Callable[[GateRule], EngineFacts | None]
    demands: Callable[[], Mapping[str, int]]


@dataclass
class _Gate:
    """One gate between two looks.

    `gone_at`: the version of the workload whose pods were seen to be gone. `holds`: it has its lease.
    """

    rule: GateRule
    timers: GateTimers = field(default_factory=GateTimers)
    said: tuple[str, str] = ("", "")
    problem: str = ""
    gone_at: int | None = None
    holds: bool = False


class GateKeeper:
    """All gates of one process. `run` it, or (tests) `look` by hand."""

    def __init__(self, ports: GatePorts, rules: Sequence[GateRule], *, dry_run: bool = False) -> None:
        self._ports = ports
        self._dry_run = dry_run
        self._gates = [_Gate(rule) for rule in rules]

    def run(self, stop: Callable[[], bool]) -> None:
        """Looks once a second until `stop()`, which is asked before each gate: an API that is silent takes its time."""
        while not stop():
            self.look(stop)
            self._ports.clock.sleep_seconds(LOOK_SECONDS)

    def look(self, stop: Callable[[], bool] = lambda: False) -> None:
        """One look at each gate; nothing where this process does not lead."""
        for gate in self._gates:
            if stop():
                return
            if not self._ports.leadership.leads():
                # Whoever led meanwhile may have done anything: nothing is remembered.
                gate.timers, gate.gone_at, gate.holds = GateTimers(), None, False
                continue
            try:
                self._look_at(gate)
            except ClusterError as error:
                self._complain(gate, str(error))
            else:
                gate.problem = ""

    def _look_at(self, gate: _Gate) -> None:
        ports, rule = self._ports, gate.rule
        found = ports.cluster.get(_ref(rule))
        workload = None if found is None else self._workload(gate, found)
        engine = ports.engine(rule)
        facts = GateFacts(
            now_at=ports.clock.now_at(),
            now_seconds=ports.clock.monotonic_seconds(),
            workload=workload,
            free_mib=None if engine is None else engine.free_mib,
            demand_count=1 if rule.jobs_lane is None else ports.demands().get(rule.jobs_lane),
            lease=self._lease(gate, workload),
            to_come_mib=0 if engine is None else self._to_come_mib(rule, engine),
        )
        verdict, gate.timers = decide(rule, facts, gate.timers)
        ports.metrics.judged(verdict, None if workload is None else workload.replicas > 0)
        self._say(gate, verdict)
        if not self._is_dry(rule):
            self._wish(rule, verdict)
            gate.holds = ports.leases.state(rule) == "granted"
        if verdict.act is not None and found is not None:
            self._act(gate, found, verdict)

    def _workload(self, gate: _Gate, found: Manifest) -> WorkloadFacts:
        replicas = int(found["spec"].get("replicas", 1))
        annotations = found["metadata"].get("annotations") or {}
        generation = int(found["metadata"].get("generation", 0))
        if replicas:
            gate.gone_at, pods_count = None, replicas
        elif gate.gone_at == generation:
            pods_count = 0
        else:
            pods_count = self._pods_count(gate.rule, found)
            gate.gone_at = None if pods_count else generation
        return WorkloadFacts(replicas, pods_count, gate.rule.released_annotation in annotations)

    def _pods_count(self, rule: GateRule, found: Manifest) -> int:
        labels = dict(found["spec"]["selector"].get("matchLabels") or {})
        # Of an expression in the selector nothing is left out here: one pod too many only waits longer.
        pods = self._ports.cluster.list(
            ObjectRef("v1", "Pod", namespace=rule.workload.namespace), label_selector=names.label_selector(labels)
        )
        return len([pod for pod in pods if pod.get("status", {}).get("phase") not in ENDED])

    def _lease(self, gate: _Gate, workload: WorkloadFacts | None) -> LeaseState | None:
        if not self._is_dry(gate.rule):
            return self._ports.leases.state(gate.rule)
        # A dry run takes nothing from others: it is as if the book had said yes at once.
        runs = workload is not None and workload.replicas > 0
        return "granted" if runs or gate.timers.taking else "none"

    def _to_come_mib(self, rule: GateRule, engine: EngineFacts) -> int:
        """What the other gates of that node hold leases of and do not use yet: a model takes its time to load."""
        others = [gate.rule for gate in self._gates if gate.holds and gate.rule.name != rule.name]
        there = [other for other in others if other.node == rule.node]
        return sum(max(0, other.need_mib - other.used_mib(engine.pods_mib)) for other in there)

    def _is_dry(self, rule: GateRule) -> bool:
        return self._dry_run or rule.gate.dry_run

    def _wish(self, rule: GateRule, verdict: GateVerdict) -> None:
        leases = self._ports.leases
        if verdict.lease == "take":
            leases.take(rule)
        elif verdict.lease == "keep":
            leases.keep(rule)
        elif verdict.lease == "give_back":
            leases.give_back(rule)

    def _act(self, gate: _Gate, found: Manifest, verdict: GateVerdict) -> None:
        """Scales; written only if the workload still is what was read: whoever was quicker has their way."""
        ports, rule, act = self._ports, gate.rule, str(verdict.act)
        fields: dict[str, Any] = {"gate": rule.name, "tenant": rule.workload.tenant, "decision": act}
        dry_run = self._is_dry(rule)
        patch = {
            "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
            "spec": {"replicas": 1 if act == "open" else 0},
        }
        if dry_run and gate.said[0] == f"would {act}":
            return
        if not ports.leadership.leads():
            return
        try:
            ports.cluster.merge_patch(
                _ref(rule), patch, field_manager=names.COORDINATOR_COMPONENT, subresource="scale", dry_run=dry_run
            )
        except Conflict as error:
            ports.metrics.acted(rule.name, act, "overtaken")
            ports.log.info("gate_overtaken", **fields, reason=str(error))
            return
        except ClusterError as error:
            ports.metrics.acted(rule.name, act, "failed")
            if gate.problem != str(error):
                ports.events.record(found, "GpumemGateFailed", f"{act}: {error}", event_type="Warning")
            raise
        ports.metrics.acted(rule.name, act, "dry_run" if dry_run else "done")
        ports.log.info(f"gate_{'would_' if dry_run else ''}{act}", **fields, reason=verdict.text)
        if dry_run:
            gate.said = (f"would {act}", verdict.text)
            ports.events.record(found, f"GpumemGateWould{act.capitalize()}", verdict.text)
        else:
            ports.events.record(found, "GpumemGateOpened" if act == "open" else "GpumemGateClosed", verdict.text)

    def _say(self, gate: _Gate, verdict: GateVerdict) -> None:
        """Once for each reason; the numbers in its text change all the time."""
        if verdict.act is None and gate.said[0] != verdict.reason.value:
            gate.said = (verdict.reason.value, verdict.text)
            self._ports.log.info("gate_changed", gate=gate.rule.name, open=verdict.open,
                                 decision=verdict.reason.value, reason=verdict.text)  # fmt: skip

    def _complain(self, gate: _Gate, reason: str) -> None:
        if gate.problem != reason:
            gate.problem = reason
            self._ports.log.warning("gate_not_seen", gate=gate.rule.name, reason=reason)


def _ref(rule: GateRule) -> ObjectRef:
    return ObjectRef(API_VERSION, rule.workload.kind, rule.workload.workload, rule.workload.namespace)
