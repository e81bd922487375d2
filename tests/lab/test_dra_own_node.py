"""The rendered policy keeps an agent to the slices of its own node and driver, by the node's name in its token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.domain.dra.devices import Device
from helpers.domain.dra.rights import DRA_AGENT_COMPONENT
from helpers.domain.dra.slice_document import NodeIdentity, desired_slice, slice_name
from helpers.domain.errors import ClusterError
from helpers.ports.cluster import ObjectRef
from helpers.rendering.dra import dra_objects
from lab.cluster import Lab, LabNode
from lab.pki import write_kubeconfig
from lab.waiting import wait_for
from tests.synth.estates import on_claims

pytestmark = pytest.mark.lab

NAMESPACE, MINE, OTHER = "dra-own-node", "dra-own-0", "dra-own-1"
ACCOUNT = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{DRA_AGENT_COMPONENT}/token"
REFUSED = "an agent of gpumem writes"


def slice_of(cluster: KubernetesCluster, node: str) -> dict[str, Any]:
    found = cluster.get(ObjectRef("v1", "Node", node))
    assert found is not None
    card = Device("gpu-0", f"GPU-{node}", "Tesla T4", 0, 14000)
    return desired_slice(NodeIdentity(node, found["metadata"]["uid"]), [card], 1)


@pytest.fixture(scope="module")
def admin(lab: Lab) -> Iterator[KubernetesCluster]:
    """The objects as they are rendered, in a namespace of this test; the policy stays away from other agents."""
    lab.node_add(LabNode(MINE, {}, {}, "bare"), LabNode(OTHER, {}, {}, "bare"))
    cluster = connect(lab.kubeconfig)
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, field_manager="test")
    made = []
    for item in dra_objects(on_claims().model_copy(update={"namespace": NAMESPACE})):
        if item.component == "dra-agent" and item.kind not in ("DaemonSet", "DeviceClass"):
            manifest = {**item.manifest, "metadata": dict(item.manifest["metadata"])}
            if item.kind != "ServiceAccount":
                manifest = renamed(manifest)
            made.append(cluster.apply(manifest, field_manager="test"))
    yield cluster
    for each in made:
        metadata = each["metadata"]
        ref = ObjectRef(each["apiVersion"], each["kind"], metadata["name"], metadata.get("namespace", ""))
        cluster.delete(ref, uid=metadata["uid"])
    lab.api().delete(f"/api/v1/namespaces/{NAMESPACE}")
    for node in (MINE, OTHER):
        lab.node_remove(node)


def renamed(manifest: dict[str, Any]) -> dict[str, Any]:
    """Under a name of this test's own, and what refers to another object refers to its new name."""
    manifest["metadata"]["name"] = f"own-node-{manifest['metadata']['name']}"
    if "roleRef" in manifest:
        manifest["roleRef"] = {**manifest["roleRef"], "name": f"own-node-{manifest['roleRef']['name']}"}
    if "policyName" in manifest.get("spec", {}):
        manifest["spec"] = {**manifest["spec"], "policyName": f"own-node-{manifest['spec']['policyName']}"}
    return manifest


@pytest.fixture(scope="module")
def agent(lab: Lab, admin: KubernetesCluster, tmp_path_factory: pytest.TempPathFactory) -> KubernetesCluster:
    """The agent's own account, with a token of a pod on its node, as the DaemonSet's pod gets it."""
    container = {"name": "main", "image": "registry.example.com/gpumem:1"}
    spec = {"nodeName": MINE, "serviceAccountName": DRA_AGENT_COMPONENT, "containers": [container]}
    pod = lab.api().post(f"/api/v1/namespaces/{NAMESPACE}/pods", {"metadata": {"name": "agent"}, "spec": spec})
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "agent", "uid": pod["metadata"]["uid"]}
    answer = lab.api().post(ACCOUNT, {"spec": {"expirationSeconds": 3600, "boundObjectRef": bound}})
    return account(lab, tmp_path_factory.mktemp("agent"), answer["status"]["token"])


def account(lab: Lab, folder: Path, token: str) -> KubernetesCluster:
    path = folder / "kubeconfig"
    return connect(write_kubeconfig(path, lab.server, lab.paths.pki / "ca.crt", "agent", token=token))


def refused(cluster: KubernetesCluster, manifest: dict[str, Any]) -> bool:
    try:
        cluster.apply(manifest, field_manager="agent", force=True, dry_run=True)
    except ClusterError as error:
        return REFUSED in str(error)
    return False


def test_it_writes_the_slice_of_its_own_node_and_no_other(admin: KubernetesCluster, agent: KubernetesCluster) -> None:
    # A policy is in force a moment after it stands.
    wait_for(lambda: refused(agent, slice_of(admin, OTHER)))
    agent.apply(slice_of(admin, MINE), field_manager="agent")
    foreign = slice_of(admin, MINE)
    foreign["metadata"]["name"] = "dra-own-foreign"
    foreign["spec"] = {**foreign["spec"], "driver": "gpu.nvidia.com"}
    assert refused(agent, foreign)


def test_it_deletes_no_slice_of_another_node(admin: KubernetesCluster, agent: KubernetesCluster) -> None:
    wait_for(lambda: refused(agent, slice_of(admin, OTHER)))
    other = admin.apply(slice_of(admin, OTHER), field_manager="test")
    ref = ObjectRef("resource.k8s.io/v1", "ResourceSlice", slice_name(OTHER))
    with pytest.raises(ClusterError, match=REFUSED):
        agent.delete(ref, uid=other["metadata"]["uid"])


def test_a_token_of_no_pod_writes_nothing(lab: Lab, admin: KubernetesCluster, tmp_path: Path) -> None:
    answer = lab.api().post(ACCOUNT, {"spec": {"expirationSeconds": 3600}})
    nobody = account(lab, tmp_path, answer["status"]["token"])
    wait_for(lambda: refused(nobody, slice_of(admin, MINE)))
