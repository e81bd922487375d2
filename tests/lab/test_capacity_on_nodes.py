"""The number on real Node objects: set, kept over kubelet restarts, restored, lowered, removed."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from helpers.adapters.clock import SystemClock
from helpers.adapters.events import KubernetesEvents
from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.domain import names
from helpers.domain.capacity import CapacitySettings, NodeCapacity
from helpers.domain.errors import CheckFailed
from helpers.ports.cluster import ObjectRef
from helpers.services.capacity import assert_capacity, unset_capacity
from helpers.services.capacity_watch import WatchPorts, watch_capacity
from helpers.services.gate import verify
from lab import cluster as lab_cluster
from lab.api import Api
from lab.cluster import Lab, LabNode
from lab.waiting import wait_for
from tests.fakes.outside import FakeCapacityMetrics, FakeEvents, FakeLeadership, FakeLog

pytestmark = pytest.mark.lab

# A resource of this file's own: other tests of the session advertise theirs on the same nodes.
RESOURCE = "capacity.test/gpumem"
HOLLOW, BARE = "capacity-hollow", "capacity-bare"
LABELS = {"capacity.test/kind": "t4"}


def settings(advertised_mib: int = 14000, *, drain: bool = False, labels: dict[str, str] = LABELS) -> CapacitySettings:
    kind = NodeCapacity(
        name="t4-node",
        node_name=None,
        labels=labels,
        min_nodes=1,
        advertised_mib=advertised_mib,
        share_resource="nvidia.com/gpu",
        shares_count=8,
    )
    return CapacitySettings(
        resource=RESOURCE, kubernetes_version="1.36", label_prefix="gpumem.io", drain=drain, nodes=(kind,)
    )


@pytest.fixture(scope="module")
def nodes(lab: Lab) -> Iterator[Lab]:
    shares = {"nvidia.com/gpu": 8}
    lab.node_add(LabNode(HOLLOW, LABELS, shares, "hollow"), LabNode(BARE, LABELS, shares, "bare"))
    yield lab
    for name in (HOLLOW, BARE):
        lab.node_remove(name)


@pytest.fixture
def cluster(nodes: Lab) -> Iterator[KubernetesCluster]:
    cluster = connect(nodes.kubeconfig)
    yield cluster
    unset_capacity(cluster, settings(), events=FakeEvents(), log=FakeLog())


def advertise(cluster: KubernetesCluster, wanted: CapacitySettings) -> None:
    assert_capacity(cluster, wanted, events=FakeEvents(), log=FakeLog())


def read(cluster: KubernetesCluster, name: str = HOLLOW) -> Any:
    return cluster.get(ObjectRef("v1", "Node", name)) or {}


def shown(cluster: KubernetesCluster, name: str = HOLLOW) -> tuple[str | None, str | None]:
    status = read(cluster, name).get("status", {})
    return status.get("capacity", {}).get(RESOURCE), status.get("allocatable", {}).get(RESOURCE)


def heartbeat(cluster: KubernetesCluster) -> str:
    """When the kubelet last wrote the node's status."""
    ready = [each for each in read(cluster)["status"]["conditions"] if each["type"] == "Ready"]
    return str(ready[0]["lastHeartbeatTime"])


def without_beats(status: dict[str, Any]) -> dict[str, Any]:
    conditions = [{**each, "lastHeartbeatTime": None} for each in status["conditions"]]
    return {**status, "conditions": conditions}


def restart_kubelet(lab: Lab, name: str = HOLLOW) -> None:
    """Kills the hollow node's kubelet and starts it again; its Node object stays."""
    role = f"kubelet-{name}"
    found = lab_cluster.status(lab.name, lab.dir.parent.parent)["processes"]
    (pid,) = [process["pid"] for process in found if process["name"] == role]
    command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    lab.stop(role)
    lab.spawn(role, command)


def is_gone(api: Api, path: str) -> bool:
    return not api.exists(path)


@contextlib.contextmanager
def watching(lab: Lab, wanted: CapacitySettings) -> Iterator[FakeCapacityMetrics]:
    """The watch in a thread of its own, with its own connection."""
    stopped, metrics = threading.Event(), FakeCapacityMetrics()
    ports = WatchPorts(connect(lab.kubeconfig), FakeLeadership(), FakeEvents(), metrics, SystemClock(), FakeLog())
    thread = threading.Thread(target=watch_capacity, args=(ports, wanted), kwargs={"stop": stopped.is_set})
    thread.start()
    try:
        wait_for(lambda: metrics.succeeded_at)
        yield metrics
    finally:
        stopped.set()
        thread.join(30)
        assert not thread.is_alive()


def test_the_number_is_there_at_once_and_owned_exactly(cluster: KubernetesCluster) -> None:
    advertise(cluster, settings())
    for name in (HOLLOW, BARE):
        assert shown(cluster, name) == ("14k", "14k")
        (ours,) = [
            entry
            for entry in read(cluster, name)["metadata"]["managedFields"]
            if entry["manager"] == names.FIELD_MANAGER_CAPACITY
        ]
        one: dict[str, Any] = {f"f:{RESOURCE}": {}}
        assert ours["fieldsV1"] == {"f:status": {"f:capacity": one, "f:allocatable": one}}
        assert (ours["operation"], ours["subresource"]) == ("Apply", "status")
    assert verify(cluster, settings(), SystemClock(), 0) == ()


def test_a_second_run_writes_nothing(cluster: KubernetesCluster) -> None:
    advertise(cluster, settings())
    before = read(cluster, BARE)["metadata"]["managedFields"]
    advertise(cluster, settings())
    assert read(cluster, BARE)["metadata"]["managedFields"] == before


def test_a_kubelet_that_restarts_keeps_it(nodes: Lab, cluster: KubernetesCluster) -> None:
    advertise(cluster, settings())
    before = heartbeat(cluster)
    # It has whole seconds, a kubelet starts in less, and unless something changes it writes again after minutes only.
    wait_for(lambda: datetime.now(UTC) - datetime.fromisoformat(before) > timedelta(seconds=1))
    restart_kubelet(nodes)
    wait_for(lambda: heartbeat(cluster) != before)
    assert shown(cluster) == ("14k", "14k")


def test_a_kubelet_puts_allocatable_back_to_capacity_by_itself(cluster: KubernetesCluster) -> None:
    """What the comment at the top of services/capacity.py rests on."""
    advertise(cluster, settings())
    other = {"status": {"allocatable": {RESOURCE: "9k"}}}
    cluster.merge_patch(ObjectRef("v1", "Node", HOLLOW), other, field_manager="meddler", subresource="status")
    wait_for(lambda: shown(cluster) == ("14k", "14k"))


def test_a_number_written_by_hand_is_taken_over(cluster: KubernetesCluster) -> None:
    by_hand = {"status": {"capacity": {RESOURCE: "12000"}}}
    cluster.merge_patch(ObjectRef("v1", "Node", BARE), by_hand, field_manager="kubectl-patch", subresource="status")
    advertise(cluster, settings())
    assert shown(cluster, BARE) == ("14k", "14k")


@pytest.mark.parametrize("name", [HOLLOW, BARE])
def test_the_watch_restores_it_when_the_node_registers_again(nodes: Lab, cluster: KubernetesCluster, name: str) -> None:
    with watching(nodes, settings()) as metrics:
        before = read(cluster, name)["metadata"]["uid"]
        nodes.node_reregister(name)
        wait_for(lambda: shown(cluster, name) == ("14k", "14k"))
        assert read(cluster, name)["metadata"]["uid"] != before
        wait_for(lambda: metrics.advertised_mib.get(name) == 14000)


def test_the_watch_restores_a_number_that_somebody_changed_or_took_off(nodes: Lab, cluster: KubernetesCluster) -> None:
    ref = ObjectRef("v1", "Node", BARE)
    with watching(nodes, settings()):
        for amount in ("9k", "20k", None):
            other = {"status": {"capacity": {RESOURCE: amount}, "allocatable": {RESOURCE: amount}}}
            cluster.merge_patch(ref, other, field_manager="meddler", subresource="status")
            wait_for(lambda: shown(cluster, BARE) == ("14k", "14k"))


def test_lowering_under_a_running_pod_is_refused_with_its_name_and_allowed_with_drain(
    cluster: KubernetesCluster, pod_on: Callable[[str, str], str]
) -> None:
    advertise(cluster, settings())
    name = pod_on(BARE, "6e3")
    with pytest.raises(CheckFailed) as refused:
        advertise(cluster, settings(5000))
    assert f"node {BARE} (t4-node): 5000 MiB is less than the 6000 MiB that run there" in str(refused.value)
    assert f"default/{name} (6000 MiB)" in str(refused.value)
    assert shown(cluster, BARE) == ("14k", "14k")
    assert shown(cluster, HOLLOW) == ("5k", "5k")  # the other node was done all the same
    advertise(cluster, settings(5000, drain=True))
    assert shown(cluster, BARE) == ("5k", "5k")


@pytest.fixture
def pod_on(nodes: Lab) -> Iterator[Callable[[str, str], str]]:
    """Makes a pod with a budget on a node and waits until it is bound there."""
    api, made = nodes.api(), list[str]()

    def make(node: str, budget: str) -> str:
        name = f"budget-{len(made)}"
        limits = {RESOURCE: budget}
        container = {"name": "main", "image": "x", "resources": {"limits": limits}}
        spec: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 0}
        spec |= {"nodeSelector": {"kubernetes.io/hostname": node}, "tolerations": [{"operator": "Exists"}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        api.post("/api/v1/namespaces/default/pods", pod)
        made.append(name)
        path = f"/api/v1/namespaces/default/pods/{name}"
        wait_for(lambda: api.get(path)["spec"].get("nodeName") == node)
        return name

    yield make
    for name in made:
        path = f"/api/v1/namespaces/default/pods/{name}"
        api.delete(path, {"gracePeriodSeconds": 0})
        wait_for(functools.partial(is_gone, api, path))


@pytest.mark.parametrize(("left", "phase"), [(None, "Running"), ("1k", "Failed")])
def test_a_kubelet_that_restarts_keeps_pods_without_a_number_and_fails_them_below_one(
    nodes: Lab, cluster: KubernetesCluster, pod_on: Callable[[str, str], str], left: str | None, phase: str
) -> None:
    """Why a move to claims takes the number away instead of lowering it."""
    advertise(cluster, settings())
    path = f"/api/v1/namespaces/default/pods/{pod_on(HOLLOW, '5k')}"
    api = nodes.api()
    wait_for(lambda: api.get(path)["status"]["phase"] == "Running")
    unset_capacity(cluster, settings(), events=FakeEvents(), log=FakeLog())
    if left is not None:
        amounts = {RESOURCE: left}
        api.patch(f"/api/v1/nodes/{HOLLOW}/status", {"status": {"capacity": amounts, "allocatable": amounts}})
    before = heartbeat(cluster)
    wait_for(lambda: datetime.now(UTC) - datetime.fromisoformat(before) > timedelta(seconds=1))
    restart_kubelet(nodes)
    wait_for(lambda: heartbeat(cluster) != before)
    wait_for(lambda: api.get(path)["status"]["phase"] == phase)
    if left is None:
        # A refusal comes within a second of the start; what it is asked again later is the same.
        time.sleep(3)
        assert api.get(path)["status"]["phase"] == "Running"
    else:
        api.patch(
            f"/api/v1/nodes/{HOLLOW}/status",
            {"status": {"capacity": {RESOURCE: None}, "allocatable": {RESOURCE: None}}},
        )


@pytest.mark.parametrize("name", [HOLLOW, BARE])
def test_unset_takes_off_the_number_and_leaves_the_rest_of_a_fresh_status(
    nodes: Lab, cluster: KubernetesCluster, name: str
) -> None:
    """An apply of the bare object removed addresses, conditions and all capacity of such a node."""
    nodes.node_reregister(name)
    before = without_beats(read(cluster, name)["status"])
    advertise(cluster, settings())
    unset_capacity(cluster, settings(), events=FakeEvents(), log=FakeLog())
    assert without_beats(read(cluster, name)["status"]) == before
    managers = [entry["manager"] for entry in read(cluster, name)["metadata"]["managedFields"]]
    assert names.FIELD_MANAGER_CAPACITY not in managers


def test_the_trap_is_still_there(nodes: Lab, cluster: KubernetesCluster) -> None:
    """The reason for the way in which unset writes: when this fails, the bare apply may be used again."""
    bare = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": HOLLOW}}

    def applied() -> dict[str, Any] | None:
        """None where the kubelet was faster: it wrote its status a second time, so its conditions are its own."""
        nodes.node_reregister(HOLLOW)
        advertise(cluster, settings())
        found = cluster.apply(bare, field_manager=names.FIELD_MANAGER_CAPACITY, subresource="status")
        writers = found["metadata"]["managedFields"]
        return None if any(one.get("subresource") == "status" for one in writers) else dict(found)

    after = wait_for(applied)
    assert after is not None
    nodes.node_reregister(HOLLOW)
    assert "capacity" not in after["status"]
    assert "conditions" not in after["status"]


def test_a_node_that_lost_its_label_loses_the_number(cluster: KubernetesCluster) -> None:
    advertise(cluster, settings())
    with contextlib.suppress(CheckFailed):
        advertise(cluster, settings(labels={"capacity.test/kind": "none"}))
    assert shown(cluster, BARE) == (None, None)


def test_an_act_is_told_in_an_event_that_kubectl_describe_shows(cluster: KubernetesCluster) -> None:
    log = FakeLog()
    events = KubernetesEvents(cluster, component="gpumem-capacity", instance="test", clock=SystemClock(), log=log)
    assert_capacity(cluster, settings(), events=events, log=log)
    assert not log.of("event_not_written")
    uid = read(cluster, BARE)["metadata"]["uid"]
    told = cluster.list(
        ObjectRef("v1", "Event", namespace="default"),
        field_selector=f"involvedObject.uid={uid},reason=GpumemCapacitySet",
    )
    assert [event["message"] for event in told] == [f"{RESOURCE}: node {BARE}: 14000 MiB (was absent)"]


def test_a_dry_run_keeps_nothing(cluster: KubernetesCluster) -> None:
    report = assert_capacity(cluster, settings(), events=FakeEvents(), log=FakeLog(), dry_run=True)
    assert f"node {BARE}: 14000 MiB (was absent)" in report.lines()
    assert shown(cluster, BARE) == (None, None)


def test_the_gate_names_the_node_and_what_it_lacks(cluster: KubernetesCluster) -> None:
    messages = [shortfall.message() for shortfall in verify(cluster, settings(), SystemClock(), 0)]
    assert f"node {HOLLOW}: allocatable {RESOURCE} is absent, wanted 14000 MiB" in messages
