"""Each fault that doctor knows: made on a real cluster, found and nothing else, mended by what it prints, gone.

A `mend` stands where no command is printed, or where the lab has nobody who does what the command asks for
(a container that runs); it does what the finding's `fix` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from helpers.domain import names
from helpers.domain.doctor.facts import Thresholds
from helpers.domain.watchdog.rights import WATCHDOG_LEASE
from helpers.services.doctor import Question
from lab.waiting import wait_for
from tests.fixtures.doctor_lab import NODE, Ward
from tests.lab.doctor_acts import (
    RESOURCE,
    Act,
    create,
    declare,
    drift,
    failed_job,
    lease,
    overflow,
    pod,
    refused_pod,
    second_owner,
    shares,
    shell,
    sick_node,
    status,
)

pytestmark = pytest.mark.lab

ESCAPED = RESOURCE.replace("/", "~1")
ADMISSION = "/apis/admissionregistration.k8s.io/v1"


@dataclass(frozen=True)
class Fault:
    """`plant` makes it; doctor then finds `ids` and nothing else. `mend` None: what is printed does it.

    `undo` brings the estate back where mending changed it.
    """

    ids: tuple[str, ...]
    plant: Act
    mend: Act | None = None
    evidence: str = ""
    question: Question | None = None
    undo: Act = lambda _: None


EXPORTER_ELSEWHERE = (
    "kubectl -n nvidia patch daemonset gpumem-exporter-t4-node --type=merge -p "
    '\'{"spec":{"template":{"spec":{"nodeSelector":{"place":%s}}}}}\''
)

OLD_NAME = (
    "kubectl -n immich patch deployment immich-server --type=json -p "
    '\'[{"op":"remove","path":"/spec/template/spec/containers/0/resources/limits/nvidia.com~1gpu"},'
    '{"op":"add","path":"/spec/template/spec/containers/0/resources/limits/nvidia.com~1gpu.shared","value":"1"}]\''
)

FAULTS = {
    "the server is another version": Fault(
        ("kubernetes-version",),
        declare('version: "1.36"', 'version: "1.37"'),
        declare('version: "1.37"', 'version: "1.36"'),
        "it is 1.36, and the estate is rendered for 1.37",
    ),
    "the node's number is gone": Fault(
        ("capacity-missing",),
        status([{"op": "remove", "path": f"/status/{field}/{ESCAPED}"} for field in ("capacity", "allocatable")]),
        evidence="is not there; the estate advertises 14000",
    ),
    "the node's number is an older one": Fault(
        ("capacity-stale",),
        status(
            [{"op": "replace", "path": f"/status/{f}/{ESCAPED}", "value": "15k"} for f in ("capacity", "allocatable")]
        ),
        evidence="is 15000; the estate advertises 14000",
    ),
    "the node lost the selector's label": Fault(
        ("node-absent",),
        shell(f"kubectl label node {NODE} nvidia.com/gpu.present-"),
        shell(f"kubectl label node {NODE} nvidia.com/gpu.present=true && gpumem capacity assert"),
        "0 node(s) match nvidia.com/gpu.present=true; min_nodes is 1",
    ),
    "the label names another plugin configuration": Fault(
        ("device-plugin-config-unselected",),
        shell(f"kubectl label node {NODE} nvidia.com/device-plugin.config=t4 --overwrite"),
        evidence="is 't4', so key t4-node of ConfigMap nvidia/nvidia-device-plugin-config is not used there",
    ),
    "the plugin's configuration is gone": Fault(
        ("device-plugin-config-absent",), shell("kubectl -n nvidia delete configmap nvidia-device-plugin-config")
    ),
    "the plugin's configuration was edited": Fault(
        ("device-plugin-config-differs",),
        shell(
            "kubectl -n nvidia patch configmap nvidia-device-plugin-config --type=merge -p "
            '\'{"data":{"t4-node":"version: v1"}}\''
        ),
        evidence="kubectl-patch",
    ),
    "the plugin offers other shares": Fault(
        ("shares-differ",),
        shares("4"),
        shares("8"),
        "allocatable nvidia.com/gpu is 4; the estate has 1 card(s) in 8 shares, 8",
    ),
    "two effects of one taint": Fault(
        ("taint-twice",),
        shell(
            f"kubectl taint node {NODE} nvidia.com/gpu=true:NoSchedule "
            f"&& kubectl taint node {NODE} nvidia.com/gpu=true:PreferNoSchedule"
        ),
        evidence="nvidia.com/gpu stands there with NoSchedule and PreferNoSchedule",
        undo=shell(f"kubectl taint node {NODE} nvidia.com/gpu-"),
    ),
    "a PriorityClass is gone": Fault(("priority-class-absent",), shell("kubectl delete priorityclass gpu-batch")),
    "a PriorityClass has another value": Fault(
        ("priority-class-differs",),
        shell("kubectl delete priorityclass gpu-batch && kubectl create priorityclass gpu-batch --value=7"),
        evidence="value is 7; the estate says 1000",
    ),
    "the RuntimeClass is gone": Fault(("runtime-class-absent",), shell("kubectl delete runtimeclass nvidia")),
    "a policy is gone": Fault(
        ("admission-policy-absent",), shell("kubectl delete mutatingadmissionpolicy gpumem-directories")
    ),
    "a policy is not bound": Fault(
        ("admission-binding-absent",), shell("kubectl delete validatingadmissionpolicybinding gpumem-deny")
    ),
    "a policy was softened": Fault(
        ("admission-policy-differs",),
        lambda ward: ward.patch(
            f"{ADMISSION}/validatingadmissionpolicies/gpumem-deny", {"spec": {"failurePolicy": "Ignore"}}
        ),
        evidence="spec.failurePolicy is Ignore; the estate says Fail",
    ),
    "an exporter's DaemonSet is gone": Fault(
        ("daemon-set-absent",), shell("kubectl -n nvidia delete daemonset gpumem-exporter-t4-node")
    ),
    "no exporter on the node": Fault(
        ("exporter-missing",),
        shell(EXPORTER_ELSEWHERE % '"elsewhere"'),
        shell(EXPORTER_ELSEWHERE % "null"),
        "it has no pod there",
    ),
    "the watchdog is gone": Fault(("watchdog-absent",), shell("kubectl -n nvidia delete deployment gpumem-watchdog")),
    "the watchdog was scaled to zero": Fault(
        ("watchdog-down",), shell("kubectl -n nvidia scale deployment gpumem-watchdog --replicas=0")
    ),
    "nobody leads the watchdog": Fault(("watchdog-no-leader",), lease(holder=""), lease()),
    "the watchdog's Lease ran out": Fault(
        ("watchdog-lease-expired",),
        lambda ward: ward.lead(WATCHDOG_LEASE, renewed_at=datetime.now(UTC) - timedelta(days=2)),
        lease(),
        "pod-0 renewed it last at",
    ),
    "dry run for long": Fault(
        ("watchdog-dry-run",),
        lambda _: None,
        declare("  dry_run: true #", "  dry_run: false #"),
        "watchdog.dry_run is true: it frees nothing",
        Question(thresholds=Thresholds(dry_run_days=0)),
        declare("  dry_run: false #", "  dry_run: true #"),
    ),
    "the capacity job is suspended": Fault(
        ("capacity-job-suspended",),
        shell('kubectl -n nvidia patch cronjob gpumem-capacity-assert --type=merge -p \'{"spec":{"suspend":true}}\''),
    ),
    "the capacity job fails": Fault(("capacity-job-failed",), failed_job, evidence="1 run(s) failed"),
    "a pod sees every card and asks for none": Fault(
        ("pod-gpu-unasked",),
        create(pod("looker", runtimeClassName="nvidia")),
        shell("kubectl -n portal delete pod looker"),
        "a bare pod; runtimeClassName nvidia",
    ),
    "a pod has a share and no budget": Fault(
        ("pod-without-budget",),
        create(pod("sharer", limits={"nvidia.com/gpu": "1"})),
        shell("kubectl -n portal delete pod sharer"),
        "it asks for nvidia.com/gpu and declares no viktorbarzin.me/gpumem",
    ),
    "a kubelet refused a pod": Fault(
        ("pods-out-of-resource",), refused_pod, evidence=f"1 pod(s) failed with OutOf{RESOURCE}"
    ),
    "more runs than the node shows": Fault(
        ("node-overcommitted",),
        create(pod("smuggled", nodeName=NODE, limits={RESOURCE: "2000"})),
        evidence="its pods declare 15300 MiB and it shows 14000",
    ),
    "a tenant waits for what nobody frees": Fault(
        ("tenant-pending",), overflow, evidence="1 pod(s) wait for 1500 MiB on t4-node"
    ),
    "a tenant's workload is gone": Fault(("workload-absent",), shell("kubectl -n frigate delete statefulset frigate")),
    "the estate names a container that is not there": Fault(
        ("container-absent",),
        declare("name: immich-server, container: main", "name: immich-server, container: mian"),
        declare("name: immich-server, container: mian", "name: immich-server, container: main"),
        "has no container mian; it has main",
    ),
    "somebody wrote another budget": Fault(
        ("budget-drift",), drift, evidence=f"{RESOURCE} is 1500, the estate says 3k; the field is owned by helm"
    ),
    "two own the budget": Fault(
        ("budget-two-owners",),
        second_owner("argocd", with_budget=True),
        second_owner("argocd", with_budget=False),
        "the budget is owned by argocd and gpumem-budget",
    ),
    "the share has another name now": Fault(
        ("resource-renamed",),
        shell(OLD_NAME),
        evidence="asks for nvidia.com/gpu.shared; nodes[t4-node] offers nvidia.com/gpu",
        undo=shell("gpumem budget set immich-server --force"),
    ),
    "a rollout would need a second place": Fault(
        ("rollout-stuck",),
        shell(
            "kubectl -n immich patch deployment immich-server --type=merge -p "
            '\'{"spec":{"strategy":{"type":"RollingUpdate"}}}\''
        ),
        evidence="starts 1 more pod(s) before an old one ends, and no node has 1800 MiB left (700)",
    ),
    "the kubelet is silent": Fault(
        ("node-not-ready",),
        sick_node,
        shell("kubectl delete node sick && kubectl delete pod -A --force --field-selector spec.nodeName=sick"),
    ),
    "nobody leads the capacity watch": Fault(
        ("capacity-watch-no-leader",),
        lambda ward: ward.lead(names.CAPACITY_LEASE, holder=""),
        lambda ward: ward.lead(names.CAPACITY_LEASE),
        "nobody holds it, though replicas are ready",
    ),
    "a tenant was released and forgotten": Fault(
        ("tenant-released",),
        shell("gpumem release immich-ml"),
        evidence="it had 1 replicas",
        question=Question(thresholds=Thresholds(released_hours=0)),
    ),
}


@pytest.mark.parametrize("about", FAULTS)
def test_the_fault_is_found_mended_and_gone(about: str, ward: Ward) -> None:
    fault = FAULTS[about]
    ward.restore_estate()
    fault.plant(ward)
    found = wait_for(lambda: [one for one in ward.findings(fault.question) if one.id in fault.ids])
    found = list(ward.findings(fault.question))
    assert tuple(one.id for one in found) == fault.ids, found
    (finding,) = found
    assert fault.evidence in finding.evidence
    assert finding.where
    assert finding.fix
    if fault.mend is not None:
        fault.mend(ward)
    else:
        assert finding.command, "no command, and no mend in the case"
        shell(finding.command)(ward)
    wait_for(lambda: not ward.findings(fault.question))
    fault.undo(ward)
    ward.calm()
    assert ward.findings() == ()
