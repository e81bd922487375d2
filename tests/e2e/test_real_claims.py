"""A pod's claim on a real kubelet: registered, prepared, told to a real container by CDI, and taken back."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from helpers.domain.dra import naming
from helpers.domain.dra.rights import dra_agent_rights
from lab import cluster, real_kubelet
from lab.cluster import Lab
from lab.dra_agent_process import RESOURCES, Agent
from lab.real_kubelet import NODE_NAME, RealNode
from lab.real_kubelet.containerd import containerd_with_cdi
from lab.real_kubelet.images import TENANT_IMAGE
from lab.rights import grant_rights
from lab.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300, func_only=True)]  # what starts and builds has its own bounds

NAMESPACE = "tenants"
TELL = 'echo "$NVIDIA_VISIBLE_DEVICES $GPUMEM_BUDGET_MIB $GPUMEM_CLAIM" > /dev/termination-log'


@pytest.fixture
def world(real_node_turn: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Agent, RealNode]]:
    root = tmp_path_factory.mktemp("real")
    try:
        lab = cluster.up("real-claims", [], root, print)
        api = lab.api()
        api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        selector = {"cel": {"expression": f'device.driver == "{naming.DRIVER}"'}}
        spec = {"selectors": [selector]}
        api.post(f"{RESOURCES}/deviceclasses", {"metadata": {"name": naming.DEVICE_CLASS}, "spec": spec})
        places = [("cluster", ""), ("default", "default")]
        kubeconfig = grant_rights(lab, "default", "dra-agent", dra_agent_rights(), places)  # type: ignore[arg-type]
        containerd = containerd_with_cdi(print)
        with real_kubelet.joined(lab, {}, "registry.local/unused:1", print, containerd=containerd) as node:
            agent = Agent(lab, node.driver_folder, NODE_NAME, kubeconfig)
            agent.plugin_dir = node.kubelet_folder / "plugins" / naming.DRIVER
            agent.registry_dir = node.kubelet_folder / "plugins_registry"
            agent.cdi_dir = node.cdi_folder
            agent.start()
            yield agent, node
            agent.stop()
    finally:
        cluster.down("real-claims", root)


def pod(lab: Lab, name: str, mib: int, command: str) -> None:
    """A pod with a claim template of its own of so many MiB."""
    exactly = {
        "deviceClassName": naming.DEVICE_CLASS,
        "capacity": {"requests": {naming.MEMORY_CAPACITY: f"{mib}Mi"}},
    }
    template = {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}}
    path = f"{RESOURCES}/namespaces/{NAMESPACE}/resourceclaimtemplates"
    lab.api().post(path, {"metadata": {"name": name}, "spec": template})
    container = {
        "name": "main",
        "image": TENANT_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", command],
        "resources": {"claims": [{"name": "gpu"}]},
    }
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": name}],
        "containers": [container],
    }
    lab.api().post(f"/api/v1/namespaces/{NAMESPACE}/pods", {"metadata": {"name": name}, "spec": spec})


def seen(lab: Lab, name: str) -> dict[str, Any]:
    found: dict[str, Any] = lab.api().get(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")["status"]
    return found


def told(lab: Lab, name: str) -> list[str]:
    """What the container's process found in its environment: card, budget, claim; empty before it ended."""
    states = [one["state"].get("terminated", {}) for one in seen(lab, name).get("containerStatuses", [])]
    return [word for state in states for word in state.get("message", "").split()]


def generation(item: dict[str, Any] | None) -> int:
    return 0 if item is None else int(item["spec"]["pool"]["generation"])


def remove(lab: Lab, name: str) -> None:
    lab.api().delete(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")


def test_a_container_is_told_its_card_and_budget_by_a_real_kubelet(world: tuple[Agent, RealNode]) -> None:
    """Two pods of 16000 MiB get a card each; what one prepared is taken back when it goes.

    In between the agent is killed and its checkpoint broken while a pod runs, and it is started again: the
    kubelet finds it by itself. At the end the kubelet itself starts again, which takes every slice away.
    """
    agent, node = world
    lab = agent.lab
    wait_for(lambda: agent.get("/readyz")[0] == 200)  # the kubelet has taken the plugin
    for name in ("one", "two"):
        pod(lab, name, 16000, TELL)
    words = {name: wait_for(partial(told, lab, name)) for name in ("one", "two")}
    assert {card for card, _, _ in words.values()} == {"GPU-rtx-0", "GPU-rtx-1"}
    assert {budget for _, budget, _ in words.values()} == {"16000"}
    assert words["one"][2].startswith(f"{NAMESPACE}/one-gpu-")

    pod(lab, "stays", 7000, f"{TELL}; sleep 3600")
    wait_for(lambda: seen(lab, "stays")["phase"] == "Running")
    agent.kill()
    (agent.plugin_dir / "checkpoint.json").write_bytes(b"\x00" * 512)
    remove(lab, "one")
    agent.start()
    wait_for(lambda: agent.metric("gpumem_dra_kubelet_registered") == 1)
    remove(lab, "two")
    wait_for(lambda: len(list(agent.cdi_dir.iterdir())) == 1)
    wait_for(lambda: agent.metric("gpumem_dra_prepared_claims") == 1)
    assert seen(lab, "stays")["phase"] == "Running"

    before = agent.slice()
    node.restart_kubelet()
    wait_for(lambda: generation(agent.slice()) > generation(before))
    pod(lab, "later", 7000, TELL)
    assert wait_for(partial(told, lab, "later"))[1] == "7000"
    assert seen(lab, "stays")["phase"] == "Running"
    remove(lab, "later")
    remove(lab, "stays")
    wait_for(lambda: list(agent.cdi_dir.iterdir()) == [])
    assert [line["event"] for line in agent.lines() if line["level"] == "error"] == ["checkpoint_rebuilt"]
