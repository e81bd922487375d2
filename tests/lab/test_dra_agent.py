"""The node agent on a real API server: what it publishes, and that the scheduler's grants are prepared from it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.domain.dra import naming
from helpers.domain.dra.rights import dra_agent_rights
from helpers.domain.errors import ExitCode
from lab.cluster import Lab, LabNode
from lab.dra_agent_process import RESOURCES, Agent, rtx
from lab.fake_nvml.state import FakeMig
from lab.rights import grant_rights
from lab.waiting import wait_for

pytestmark = pytest.mark.lab

NODE, NAMESPACE, ACCOUNT, CLASS = "dra-agent", "dra-agent", "dra-agent", "dra-agent-test"
GPU_LOST = 15
XID = f"{naming.DRIVER}/xid"
_FIELDS = ["allowMultipleAllocations", "attributes", "capacity", "name"]  # of a device without taints


@pytest.fixture(scope="module")
def world(lab: Lab) -> Iterator[tuple[Lab, Path]]:
    api = lab.api()
    api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    selector = {"cel": {"expression": f'device.driver == "{naming.DRIVER}"'}}
    api.post(f"{RESOURCES}/deviceclasses", {"metadata": {"name": CLASS}, "spec": {"selectors": [selector]}})
    places = [("cluster", ""), ("default", "default")]
    kubeconfig = grant_rights(lab, NAMESPACE, ACCOUNT, dra_agent_rights(), places)  # type: ignore[arg-type]
    lab.node_add(LabNode(NODE, {"dra.test/agent": "yes"}, {}, "bare"))
    yield lab, kubeconfig
    lab.node_remove(NODE)
    api.delete(f"/api/v1/namespaces/{NAMESPACE}")
    api.delete(f"{RESOURCES}/deviceclasses/{CLASS}")


@pytest.fixture(scope="module")
def running(world: tuple[Lab, Path]) -> Iterator[Agent]:
    lab, kubeconfig = world
    with tempfile.TemporaryDirectory(prefix="dra") as folder:
        agent = Agent(lab, Path(folder), NODE, kubeconfig)
        agent.start()
        yield agent
        agent.stop()
        if found := agent.slice():
            lab.api().delete(f"{RESOURCES}/resourceslices/{found['metadata']['name']}")


@pytest.fixture
def agent(running: Agent) -> Agent:
    """With two cards, both well, whatever the test before did."""
    running.show(rtx(0), rtx(1))
    wait_for(lambda: [sorted(one) for one in running.devices().values()] == [_FIELDS, _FIELDS])
    return running


def claim(lab: Lab, name: str, mib: int) -> None:
    """A claim of so many MiB, and a pod that uses it on the agent's node."""
    exactly = {"deviceClassName": CLASS, "capacity": {"requests": {naming.MEMORY_CAPACITY: f"{mib}Mi"}}}
    spec = {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}
    lab.api().post(f"{RESOURCES}/namespaces/{NAMESPACE}/resourceclaims", {"metadata": {"name": name}, "spec": spec})
    pod = {
        "nodeSelector": {"dra.test/agent": "yes"},
        "tolerations": [{"operator": "Exists"}],
        "resourceClaims": [{"name": "gpu", "resourceClaimName": name}],
        "containers": [{"name": "main", "image": "x", "resources": {"claims": [{"name": "gpu"}]}}],
        "terminationGracePeriodSeconds": 0,
    }
    lab.api().post(f"/api/v1/namespaces/{NAMESPACE}/pods", {"metadata": {"name": name}, "spec": pod})


def allocated(lab: Lab, name: str) -> dict[str, Any] | None:
    found = lab.api().get(f"{RESOURCES}/namespaces/{NAMESPACE}/resourceclaims/{name}")
    return found if found.get("status", {}).get("allocation") else None


def lab_node(lab: Lab) -> str:
    """A node of the lab that no agent of these tests publishes for."""
    names = [node["metadata"]["name"] for node in lab.api().get("/api/v1/nodes")["items"]]
    return str(next(name for name in sorted(names) if name != NODE))


def remove(lab: Lab, *names: str) -> None:
    for name in names:
        lab.api().delete(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")
        lab.api().delete(f"{RESOURCES}/namespaces/{NAMESPACE}/resourceclaims/{name}")


def test_cards_are_published_kept_and_come_back_with_the_node(agent: Agent) -> None:
    lab, api = agent.lab, agent.lab.api()
    first = agent.slice()
    assert first is not None
    assert {name: one["capacity"]["memory"]["value"] for name, one in agent.devices().items()} == {
        "gpu-0": "24000Mi",
        "gpu-1": "24000Mi",
    }
    assert all(one["allowMultipleAllocations"] for one in agent.devices().values())
    path = f"{RESOURCES}/resourceslices/{first['metadata']['name']}"
    api.delete(path)
    again = wait_for(agent.slice)
    assert again is not None
    assert again["spec"]["pool"]["generation"] == first["spec"]["pool"]["generation"] + 1
    api.patch(path, {"spec": {"devices": []}})
    wait_for(lambda: len(agent.devices()) == 2)

    lab.node_reregister(NODE)
    uid = api.get(f"/api/v1/nodes/{NODE}")["metadata"]["uid"]
    wait_for(lambda: (agent.slice() or first)["metadata"]["ownerReferences"][0]["uid"] == uid)
    assert len(agent.devices()) == 2
    wait_for(
        lambda: agent.metric("gpumem_dra_slice_generation") == (agent.slice() or first)["spec"]["pool"]["generation"]
    )
    assert agent.metric("gpumem_dra_published_devices") == 2
    assert "GpumemPublished" in wait_for(agent.reasons)
    assert not [line for line in agent.lines() if line["level"] == "error"]


def test_a_lost_card_loses_its_pods_and_takes_no_more_and_a_mig_card_brings_its_devices(agent: Agent) -> None:
    lab = agent.lab
    claim(lab, "moved", 20000)
    victim = wait_for(lambda: allocated(lab, "moved"))
    assert victim is not None
    (result,) = victim["status"]["allocation"]["devices"]["results"]
    lost, left = result["device"], {"gpu-0": "gpu-1", "gpu-1": "gpu-0"}[result["device"]]
    agent.show(rtx(0), rtx(1), errors={("nvmlDeviceGetUUID", lost.removeprefix("gpu-")): GPU_LOST})
    wait_for(lambda: "taints" in agent.devices()[lost])
    (taint,) = agent.devices()[lost]["taints"]
    assert (taint["key"], taint["effect"]) == (f"{naming.DRIVER}/lost", "NoExecute")
    wait_for(lambda: not lab.api().exists(f"/api/v1/namespaces/{NAMESPACE}/pods/moved"))  # Kubernetes evicts it
    remove(lab, "moved")
    names = ["first", "second"]
    for name in names:
        claim(lab, name, 16000)
    try:
        placed = wait_for(lambda: [found for name in names if (found := allocated(lab, name))])
        results = [result for one in placed for result in one["status"]["allocation"]["devices"]["results"]]
        assert [result["device"] for result in results] == [left], "only one of them fits the card that is left"
        agent.show(rtx(0), rtx(1))
        wait_for(lambda: all(allocated(lab, name) for name in names))
    finally:
        remove(lab, *names)
    mig = FakeMig("MIG-1", 9856 << 20, reserved_bytes=16 << 20, name="NVIDIA A100 MIG 1g.10gb")
    agent.show(rtx(0), rtx(1), rtx(2, migs=(mig,)))
    wait_for(lambda: "gpu-2-mig-0" in agent.devices())
    found = agent.devices()["gpu-2-mig-0"]
    assert found["capacity"]["memory"]["value"] == "9840Mi"
    assert found["attributes"]["migProfile"] == {"string": "1g.10gb"}


def test_a_grant_of_the_scheduler_is_prepared_also_after_a_kill_and_with_a_broken_checkpoint(agent: Agent) -> None:
    lab = agent.lab
    assert agent.registration().name == naming.DRIVER
    claim(lab, "chat", 16000)
    try:
        granted = wait_for(lambda: allocated(lab, "chat"))
        assert granted is not None
        (result,) = granted["status"]["allocation"]["devices"]["results"]
        answer = agent.prepare(granted)
        assert not answer.error
        (device,) = answer.devices
        assert (device.pool_name, device.device_name, device.share_id) == (NODE, result["device"], result["shareID"])
        card = f"GPU-rtx-{result['device'].removeprefix('gpu-')}"
        expected = {"NVIDIA_VISIBLE_DEVICES": card, "GPUMEM_BUDGET_MIB": "16000", "GPUMEM_CLAIM": f"{NAMESPACE}/chat"}
        assert agent.environment(granted) == expected
        assert agent.metric("gpumem_dra_prepared_claims") == 1

        agent.kill()
        agent.start()
        assert agent.prepare(granted) == answer
        agent.kill()
        (agent.plugin_dir / "checkpoint.json").write_text('{"version": 1, "claims": [')
        agent.start()
        assert agent.prepare(granted) == answer
        assert agent.environment(granted) == expected
        assert agent.metric('gpumem_dra_errors_total{what="checkpoint"}') == 1
        wait_for(lambda: "GpumemCheckpointRebuilt" in agent.reasons())

        another = {"metadata": granted["metadata"] | {"uid": "00000000-0000-4000-8000-000000000000"}}
        assert "the claim was deleted and made anew" in agent.prepare(another).error
        assert not agent.unprepare(granted).error
        assert not agent.unprepare(granted).error
        assert list(agent.cdi_dir.iterdir()) == []
        assert agent.metric("gpumem_dra_prepared_claims") == 0
    finally:
        remove(lab, "chat")


def test_a_second_agent_on_the_node_ends_and_says_whose_it_is(agent: Agent) -> None:
    first, before = agent.process, agent.slice()
    assert first is not None
    try:
        assert agent.start().wait(60) == ExitCode.CHECK_FAILED
    finally:
        agent.process = first
    (line,) = [line for line in agent.lines() if line["event"] == "run_failed"]
    assert f"another agent (process {first.pid}) has {agent.plugin_dir}" in line["reason"]
    assert agent.slice() == before
    assert agent.registration().name == naming.DRIVER


def test_where_nvidias_driver_shares_memory_the_agent_stands_back(agent: Agent) -> None:
    api = agent.lab.api()
    device = {"name": "gpu-0", "allowMultipleAllocations": True, "capacity": {"memory": {"value": "24Gi"}}}
    pool = {"name": NODE, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "gpu.nvidia.com", "nodeName": NODE, "pool": pool, "devices": [device]}
    api.post(f"{RESOURCES}/resourceslices", {"metadata": {"name": "dra-agent-nvidia"}, "spec": spec})
    try:
        wait_for(lambda: agent.slice() is None)
        wait_for(lambda: agent.metric("gpumem_dra_standing_back") == 1)
        wait_for(lambda: "GpumemStandingBack" in agent.reasons())
    finally:
        api.delete(f"{RESOURCES}/resourceslices/dra-agent-nvidia")
    wait_for(lambda: len(agent.devices()) == 2)
    wait_for(lambda: agent.metric("gpumem_dra_standing_back") == 0)


def test_a_dry_run_publishes_nothing_and_leaves_the_kubelet_alone(world: tuple[Lab, Path]) -> None:
    lab, kubeconfig = world
    with tempfile.TemporaryDirectory(prefix="dra") as folder:
        agent = Agent(lab, Path(folder), lab_node(lab), kubeconfig)
        agent.start("--dry-run")
        wait_for(lambda: [line for line in agent.lines() if line.get("decision") == "GpumemPublished"])
        wait_for(lambda: agent.get("/readyz")[0] == 200)
        assert agent.stop() == ExitCode.OK
        assert (agent.slice(), agent.plugin_dir.exists(), agent.registry_dir.exists()) == (None, False, False)


def test_a_removed_node_takes_its_slice_with_it(lab: Lab, world: tuple[Lab, Path]) -> None:
    with tempfile.TemporaryDirectory(prefix="dra") as folder:
        agent = Agent(lab, Path(folder), "dra-agent-leaves", world[1])
        lab.node_add(LabNode(agent.node, {}, {}, "bare"))
        try:
            agent.start()
            wait_for(agent.slice)
            agent.show(rtx(0, xids=(79,)), rtx(1))
            wait_for(lambda: [one["key"] for one in agent.devices()["gpu-0"].get("taints", [])] == [XID])
            assert agent.stop() == ExitCode.OK
            assert agent.slice() is not None, "a new agent would take it up"
        finally:
            lab.node_remove(agent.node)
        wait_for(lambda: agent.slice() is None)
