"""The gate keeper on a cluster in memory: what it scales, what it leaves alone, and what it says."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from helpers.domain.budget import WorkloadIdentity
from helpers.domain.demand_gates.decision import FREED_SECONDS, GateReason
from helpers.domain.demand_gates.rules import GateRule
from helpers.domain.errors import ClusterError, Conflict
from helpers.domain.lanes.engines import EngineFacts
from helpers.ports.cluster import ObjectRef
from helpers.services.demand_gates import GateKeeper, GatePorts
from helpers.services.release import release, restore, set_replicas
from tests.fakes.cluster import FakeCluster
from tests.fakes.gates import RELEASED, FakeGateLeases, FakeGateMetrics, gate_rule, guide_text
from tests.fakes.lanes import EVENING, NIGHT, NOON
from tests.fakes.outside import FakeClock, FakeEvents, FakeLeadership, FakeLog

REF = ObjectRef("apps/v1", "Deployment", "training", "ai-dev")
IDENTITY = WorkloadIdentity(tenant="training", namespace="ai-dev", kind="Deployment", workload="training")
POD = ObjectRef("v1", "Pod", "training-1", "ai-dev")
LABELS = {"app": "training"}
ONE_POD = {"spec": {"containers": [{"name": "main"}]}, "status": {"phase": "Running"}}


class ScaleClock(FakeClock):
    """A wall clock that tests set, beside the one that only goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.at = EVENING

    def now_at(self) -> datetime:
        return self.at


class World:
    """One gate, its workload with `replicas`, and everything around it."""

    def __init__(
        self, rule: GateRule | None = None, *others: GateRule, replicas: int = 0, dry_run: bool = False
    ) -> None:
        self.cluster = FakeCluster()
        self.leases = FakeGateLeases()
        self.leadership = FakeLeadership()
        self.events = FakeEvents()
        self.metrics = FakeGateMetrics()
        self.clock = ScaleClock()
        self.log = FakeLog()
        self.free_mib: int | None = 8000
        self.pods_mib: dict[tuple[str, str], int] = {}
        self.jobs: dict[str, int] = {"batch": 1}
        for name in ("training", *(other.name for other in others)):
            self.cluster.add(
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "metadata": {"name": name, "namespace": "ai-dev"},
                    "spec": {
                        "replicas": replicas,
                        "selector": {"matchLabels": {"app": name}},
                        "template": {"spec": {"containers": [{"name": "main"}]}},
                    },
                }
            )
        ports = GatePorts(
            cluster=self.cluster,
            leases=self.leases,
            leadership=self.leadership,
            events=self.events,
            metrics=self.metrics,
            clock=self.clock,
            log=self.log,
            engine=lambda rule: EngineFacts(rule.workload.tenant, free_mib=self.free_mib, pods_mib=self.pods_mib),
            demands=lambda: self.jobs,
        )
        self.keeper = GateKeeper(ports, [rule or gate_rule(windows=[NIGHT]), *others], dry_run=dry_run)

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.keeper.look()
            self.clock.advance(1)

    def pod(self, *, labels: dict[str, str] | None = None) -> None:
        metadata = {"name": "training-1", "namespace": "ai-dev", "labels": labels or LABELS}
        self.cluster.add({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, **ONE_POD})

    @property
    def replicas(self) -> int:
        return int(self.cluster.now(REF)["spec"]["replicas"])

    @property
    def reason(self) -> GateReason:
        return self.metrics.verdicts["training"].reason

    def lease(self) -> str | None:
        return self.leases.states["training"]

    def said(self) -> list[str]:
        return [reason for _, _, reason, _ in self.events.recorded]


def opened(**fields: Any) -> World:
    world = World(gate_rule(**{"windows": [NIGHT], **fields}))
    world.look(2)
    assert world.replicas == 1
    return world


def test_it_takes_the_lease_and_then_scales_under_its_own_name() -> None:
    world = World()
    world.look()
    assert (world.replicas, world.leases.states) == (0, {"training": "granted"})
    world.look()
    assert world.replicas == 1
    assert world.cluster.owned_by(REF, "gpumem-coordinator") == {".spec.replicas"}
    assert world.said() == ["GpumemGateOpened"]
    assert world.metrics.acts == [("training", "open", "done")]
    world.look(5)
    assert world.leases.kept[-1] == "training"
    assert world.metrics.acts == [("training", "open", "done")]


def test_it_writes_nothing_but_the_scale() -> None:
    world = opened()
    writes = [call for call in world.cluster.calls if call.startswith(("patch", "create", "delete"))]
    assert writes == ["patch Deployment/scale Deployment ai-dev/training"]


def test_at_the_windows_end_it_closes_and_gives_the_lease_back_when_the_pod_has_gone() -> None:
    world = opened()
    world.pod()
    world.free_mib, world.clock.at = 3000, NOON
    world.look(3)
    assert (world.replicas, world.lease()) == (0, "granted")
    world.cluster.remove(POD)
    world.look(2)
    assert world.lease() == "granted"  # the card does not show it yet
    world.free_mib = 8000
    world.look()
    assert world.lease() == "none"
    assert world.said() == ["GpumemGateOpened", "GpumemGateClosed"]


def test_the_pods_of_others_are_not_waited_for() -> None:
    world = opened()
    world.pod(labels={"app": "other"})
    world.clock.at = NOON
    world.look(2)
    world.free_mib = 9000
    world.look()
    assert world.lease() == "none"


def test_pods_are_listed_only_until_they_have_gone() -> None:
    world = World()
    world.clock.at = NOON
    world.look(50)
    assert len([call for call in world.cluster.calls if call.startswith("list Pod")]) == 1


def test_a_lease_that_is_queued_keeps_it_closed() -> None:
    world = World()
    world.leases.answers = "queued"
    world.look(5)
    assert (world.replicas, world.reason) == (0, GateReason.LEASE)
    world.leases.states["training"] = "granted"
    world.look()
    assert world.replicas == 1


def test_a_release_wins_while_it_runs_and_while_it_is_closed() -> None:
    world = opened()
    release(world.cluster, IDENTITY, "gpumem.io", gated=True)
    world.look(3)
    assert (world.replicas, world.reason) == (0, GateReason.RELEASED)
    outcome = restore(world.cluster, IDENTITY, "gpumem.io", gated=True)
    assert "given back to its gate" in outcome.message
    world.clock.at = NOON
    world.free_mib = 9000
    world.look(int(FREED_SECONDS) + 2)
    assert (world.replicas, world.reason) == (0, GateReason.WINDOW)
    release(world.cluster, IDENTITY, "gpumem.io", gated=True)
    world.clock.at = EVENING
    world.look(5)
    assert (world.replicas, world.reason) == (0, GateReason.RELEASED)
    restore(world.cluster, IDENTITY, "gpumem.io", gated=True)
    world.look(3)
    assert world.replicas == 1


def test_a_release_between_its_look_and_its_act_wins() -> None:
    world = World()
    world.look()
    read = world.cluster.get

    def released_meanwhile(ref: ObjectRef) -> Any:
        found = read(ref)
        world.cluster.get = read  # type: ignore[method-assign]
        release(world.cluster, IDENTITY, "gpumem.io", gated=True)
        return found

    world.cluster.get = released_meanwhile  # type: ignore[method-assign]
    world.look()
    assert world.replicas == 0
    assert world.metrics.acts == [("training", "open", "overtaken")]
    world.look(3)
    assert (world.replicas, world.reason) == (0, GateReason.RELEASED)


def test_a_released_workload_keeps_its_zero_when_the_estate_is_applied_again() -> None:
    world = World()
    release(world.cluster, IDENTITY, "gpumem.io", gated=True)
    set_replicas(world.cluster, IDENTITY, 0, "gpumem.io")
    assert world.cluster.now(REF)["metadata"]["annotations"] == {RELEASED: "1"}


def test_without_a_gate_a_release_of_nothing_marks_nothing() -> None:
    world = World()
    assert not release(world.cluster, IDENTITY, "gpumem.io").changed


def test_a_dry_run_says_it_once_and_scales_and_leases_nothing() -> None:
    world = World(gate_rule(windows=[NIGHT], dry_run=True))
    world.look(20)
    assert (world.replicas, world.leases.states) == (0, {})
    assert world.said() == ["GpumemGateWouldOpen"]
    assert len(world.log.of("gate_would_open")) == 1
    assert world.metrics.acts == [("training", "open", "dry_run")]
    world.clock.at = NOON
    world.look(3)
    assert world.reason is GateReason.WINDOW


def test_a_dry_run_of_the_whole_coordinator_is_one_of_every_gate() -> None:
    world = World(dry_run=True)
    world.look(5)
    assert (world.replicas, world.leases.states, world.said()) == (0, {}, ["GpumemGateWouldOpen"])


def test_a_dry_run_beside_a_workload_that_runs_says_when_it_would_close() -> None:
    world = World(gate_rule(windows=[NIGHT], dry_run=True), replicas=1)
    world.look(3)
    assert world.said() == []
    world.clock.at = NOON
    world.look(3)
    assert (world.replicas, world.said()) == (1, ["GpumemGateWouldClose"])


def test_what_another_gate_was_granted_and_has_not_taken_yet_is_nobody_elses() -> None:
    """Both see 11000 MiB free, and a model takes its time to load: one of the two waits."""
    world = World(gate_rule("training"), gate_rule("vllm"))
    world.free_mib = 11000
    world.look(5)
    vllm = ObjectRef("apps/v1", "Deployment", "vllm", "ai-dev")
    assert (world.replicas, world.cluster.now(vllm)["spec"]["replicas"]) == (1, 0)
    assert world.metrics.verdicts["vllm"].reason is GateReason.MEMORY
    assert "less 5000 that other gates were granted" in world.metrics.verdicts["vllm"].text
    # It took 4900 of its 5000, and 6380 are left besides the 100 that may still come: room for the other.
    world.free_mib, world.pods_mib = 6380, {("ai-dev", "training-7d4f9c6b5-abcde"): 4900}
    world.look(5)
    assert world.cluster.now(vllm)["spec"]["replicas"] == 1


def test_memory_that_went_between_the_lease_and_the_opening_keeps_it_closed() -> None:
    world = World()
    world.look()
    world.free_mib = 4999
    world.look(3)
    assert (world.replicas, world.reason) == (0, GateReason.ENDING)
    world.look(int(FREED_SECONDS))
    assert world.leases.states["training"] == "none"


def test_only_the_leader_looks_and_the_next_one_starts_afresh() -> None:
    world = World(gate_rule(open_after_seconds=5))
    world.look(4)
    world.leadership.leading = False
    calls = len(world.cluster.calls)
    world.look(3)
    assert len(world.cluster.calls) == calls
    world.leadership.leading = True
    world.look(5)
    assert (world.replicas, world.reason) == (0, GateReason.SETTLING)
    world.look(3)
    assert world.replicas == 1


def test_the_next_leader_keeps_the_lease_of_a_workload_that_runs() -> None:
    world = opened()
    other = World(gate_rule(windows=[NIGHT]), replicas=1)
    other.leases.states = world.leases.states
    other.look(40)
    assert (other.replicas, other.leases.states) == (1, {"training": "granted"})
    assert other.said() == []


def test_a_lane_that_is_not_known_opens_nothing_and_closes_nothing() -> None:
    world = World(gate_rule(lane="batch"))
    world.jobs = {}
    world.look(5)
    assert (world.replicas, world.reason) == (0, GateReason.UNKNOWN)
    world.jobs = {"batch": 3}
    world.look(2)
    assert world.replicas == 1
    world.jobs = {}
    world.look(5)
    assert world.replicas == 1
    world.jobs = {"batch": 0}
    world.look()
    assert world.replicas == 0


@pytest.mark.parametrize("verb", ["get", "list", "patch"])
def test_an_api_that_does_not_answer_is_said_once_and_asked_again(verb: str) -> None:
    world = World()
    world.cluster.fail_next(verb, ClusterError("no answer"), ClusterError("no answer"))
    world.look(6)
    assert world.replicas == 1
    assert len(world.log.of("gate_not_seen")) == 1


def test_a_missing_right_is_an_event_on_the_workload_once() -> None:
    world = World()
    world.cluster.forbid("patch", "Deployment/scale")
    world.look(6)
    assert world.said() == ["GpumemGateFailed"]
    assert {outcome for _, _, outcome in world.metrics.acts} == {"failed"}


def test_a_conflict_is_no_failure() -> None:
    world = World()
    world.look()
    world.cluster.fail_next("patch", Conflict("409"))
    world.look(2)
    assert world.metrics.acts == [("training", "open", "overtaken"), ("training", "open", "done")]


def test_a_plain_process_refuses_gates_with_the_repair(tmp_path: Path) -> None:
    """In a process of its own: the threads that it starts look at addresses that are not there."""
    estate = tmp_path / "gpumem.yaml"
    estate.write_text(guide_text())
    command = [sys.executable, "-m", "helpers.apps.cli", "coordinator", "run", "--no-kubernetes", "-f", str(estate)]
    answer = subprocess.run([*command, "--address", ""], capture_output=True, text=True, timeout=120)
    assert answer.returncode == 2
    assert "leave --no-kubernetes out, or them" in answer.stderr
