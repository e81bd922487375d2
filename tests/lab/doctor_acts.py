"""What doctor's faults are made of: acts on the ward's cluster, as a person, a controller or a broken machine would."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

from helpers.domain.watchdog.rights import WATCHDOG_LEASE
from helpers.ports.cluster import ObjectRef
from lab.api import STRATEGIC_PATCH
from lab.nodes import BARE_LABEL, bare_node
from lab.state import LabNode
from lab.waiting import wait_for
from tests.fixtures.doctor_lab import NODE, Ward

RESOURCE = "viktorbarzin.me/gpumem"
APPS = "/apis/apps/v1/namespaces"
Act = Callable[[Ward], Any]


def status(patch: list[dict[str, Any]]) -> Act:
    return shell(f"kubectl patch node {NODE} --subresource=status --type=json -p {shlex.quote(json.dumps(patch))}")


def shell(command: str) -> Act:
    def run(ward: Ward) -> None:
        done = ward.run(command)
        assert done.returncode == 0, done.stderr

    return run


def shares(count: str) -> Act:
    """What the device plugin offers; capacity too, from which a kubelet copies."""
    fields = ("capacity", "allocatable")
    return status([{"op": "replace", "path": f"/status/{f}/nvidia.com~1gpu", "value": count} for f in fields])


def edit(old: str, new: str) -> Act:
    """Changes the estate file."""

    def run(ward: Ward) -> None:
        text = ward.file.read_text()
        assert old in text, old
        ward.file.write_text(text.replace(old, new, 1))

    return run


_SETTINGS = "--only ConfigMap/nvidia/gpumem-capacity --only ConfigMap/nvidia/gpumem-watchdog"


def declare(old: str, new: str) -> Act:
    """Changes the estate and applies what follows from it in our own settings."""

    def run(ward: Ward) -> None:
        edit(old, new)(ward)
        shell(f"gpumem render --stdout {_SETTINGS} | "
              "kubectl apply --server-side --force-conflicts --field-manager=gpumem-terraform -f -")(ward)  # fmt: skip

    return run


def pod(name: str, namespace: str = "portal", **spec: Any) -> dict[str, Any]:
    limits = spec.pop("limits", {})
    container = {"name": "main", "image": "x:1", "resources": {"limits": limits}}
    tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [container], "tolerations": tolerations, "terminationGracePeriodSeconds": 0, **spec},
    }


def create(manifest: dict[str, Any]) -> Act:
    def run(ward: Ward) -> None:
        ward.cluster.create(manifest, field_manager="somebody")

    return run


def lease(**how: Any) -> Act:
    return lambda ward: ward.lead(WATCHDOG_LEASE, **how)


def overflow(ward: Ward) -> None:
    """Somebody's pod takes what is left and more, while a tenant is being replaced."""
    shell(
        "kubectl -n portal scale deployment/portal-stt --replicas=0 && kubectl -n portal wait --for=delete pod --all"
    )(ward)
    create(pod("squatter", limits={RESOURCE: "2000"}))(ward)
    wait_for(ward.settled)
    shell("kubectl -n portal scale deployment/portal-stt --replicas=1")(ward)
    wait_for(lambda: "Insufficient" in json.dumps(ward.cluster.list(ObjectRef("v1", "Pod", namespace="portal"))))


def sick_node(ward: Ward) -> None:
    """A machine like the other, whose kubelet has never reported."""
    labels = {"nvidia.com/gpu.present": "true", "nvidia.com/device-plugin.config": NODE}
    node = bare_node(LabNode("sick", labels, {"nvidia.com/gpu": 8, RESOURCE: 14000}, "bare"), 1)
    del node["metadata"]["labels"][BARE_LABEL]
    node["status"]["conditions"][-1]["status"] = "False"
    ward.lab.api().post("/api/v1/nodes", node)


def failed_job(ward: Ward) -> None:
    found = ward.cluster.get(ObjectRef("batch/v1", "CronJob", "gpumem-capacity-assert", "nvidia"))
    assert found is not None
    template = json.loads(json.dumps(found["spec"]["jobTemplate"]))
    container = template["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "LAB_EXIT_AFTER_SECONDS", "value": "0"}, {"name": "LAB_EXIT_CODE", "value": "3"}]
    template["spec"]["backoffLimit"] = 0
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": found["metadata"]["name"],
             "uid": found["metadata"]["uid"], "controller": True}  # fmt: skip
    job = {"apiVersion": "batch/v1", "kind": "Job", "spec": template["spec"],
           "metadata": {"name": "assert-1", "namespace": "nvidia", "ownerReferences": [owner]}}  # fmt: skip
    ward.cluster.create(job, field_manager="cronjob")
    wait_for(lambda: "Failed" in json.dumps(
        (ward.cluster.get(ObjectRef("batch/v1", "Job", "assert-1", "nvidia")) or {}).get("status", {})))  # fmt: skip


def refused_pod(ward: Ward) -> None:
    path = "/api/v1/namespaces/portal/pods/was-there"
    create(pod("was-there", nodeName=NODE))(ward)
    # The lab's kubelet says nothing of it afterwards.
    wait_for(lambda: ward.lab.api().get(path)["status"].get("phase") == "Running")
    ward.patch(f"{path}/status", {"status": {"phase": "Failed", "reason": f"OutOf{RESOURCE}"}})


def drift(ward: Ward) -> None:
    containers = [{"name": "main", "resources": {"limits": {RESOURCE: "1500"}}}]
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    ward.patch(
        f"{APPS}/immich/deployments/immich-machine-learning", patch, content_type=STRATEGIC_PATCH, fieldManager="helm"
    )


def second_owner(manager: str, *, with_budget: bool) -> Act:
    container: dict[str, Any] = {"name": "main"}
    if with_budget:
        container["resources"] = {"limits": {RESOURCE: "1800"}}
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "immich-server", "namespace": "immich"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }

    def run(ward: Ward) -> None:
        ward.cluster.apply(manifest, field_manager=manager)

    return run
