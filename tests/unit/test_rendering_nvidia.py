"""Wave 0: what the nvidia stack holds, beside what the synth tests say of every rendering."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from helpers.domain import names
from helpers.domain.capacity import CapacitySettings, capacity_settings
from helpers.domain.estate.model import Estate
from helpers.rendering.objects import Rendered
from helpers.rendering.render import render
from tests.synth.estates import example

OPERATOR = "managed_by: gpu-operator"
OURS = f"{OPERATOR} #"


def manifest(rendered: Rendered, address: str) -> Any:
    return next(item.manifest for item in rendered.objects if item.wave == 0 and item.address == address)


def with_own_plugin(**replaced: str) -> Estate:
    own = "managed_by: estate\n  image: nvcr.io/nvidia/k8s-device-plugin:v0.17.1 #"
    return example(**{OURS: own, **replaced})


def pods(rendered: Rendered) -> dict[str, Any]:
    watch = manifest(rendered, "capacity-watch")["spec"]["template"]["spec"]
    job = manifest(rendered, "capacity-cron-job")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return {"watch": watch, "job": job}


def test_watch_and_job_read_the_document_that_the_gate_reads() -> None:
    rendered = render(example())
    data = manifest(rendered, "capacity-config")["data"]
    assert CapacitySettings.model_validate_json(data["capacity.json"]) == capacity_settings(example())
    step = next(step for step in rendered.steps if step.address == "capacity-assert")
    assert step.triggers == {"capacity": data["capacity.json"]}
    for name, pod in pods(rendered).items():
        (container,) = pod["containers"]
        mount = next(item for item in container["volumeMounts"] if item["name"] == "settings")
        volume = next(item for item in pod["volumes"] if item["name"] == "settings")
        assert f"{mount['mountPath']}/{next(iter(data))}" in container["args"], name
        assert volume["configMap"]["name"] == manifest(rendered, "capacity-config")["metadata"]["name"]


def test_a_changed_number_starts_the_watch_again() -> None:
    annotations = [
        manifest(render(estate), "capacity-watch")["spec"]["template"]["metadata"]["annotations"]
        for estate in (example(), example(**{"reserve_mib: 1360": "reserve_mib: 1300"}))
    ]
    text = manifest(render(example()), "capacity-config")["data"]["capacity.json"]
    assert annotations[0] == {"gpumem.io/settings-sha256": hashlib.sha256(text.encode()).hexdigest()}
    assert annotations[0] != annotations[1]


@pytest.mark.parametrize("which", ["watch", "job"])
def test_the_helpers_run_with_the_least_that_they_need(which: str) -> None:
    pod = pods(render(example()))[which]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("which", ["watch", "job"])
def test_the_helpers_need_no_gpu_node(which: str) -> None:
    pod = pods(render(example()))[which]
    assert not {"nodeSelector", "nodeName", "affinity", "runtimeClassName", "tolerations"} & set(pod)
    assert set(pod["containers"][0]["resources"]["limits"]) == {"memory"}


def test_only_the_helpers_themselves_get_a_token() -> None:
    rendered = render(example())
    account = manifest(rendered, "capacity-service-account")
    assert account["automountServiceAccountToken"] is False
    for pod in pods(rendered).values():
        assert pod["automountServiceAccountToken"] is True
        assert pod["serviceAccountName"] == account["metadata"]["name"] == names.CAPACITY_SERVICE_ACCOUNT


def test_probes_reach_the_metrics_port_from_outside_the_pod() -> None:
    (container,) = pods(render(example()))["watch"]["containers"]
    (port,) = container["ports"]
    assert container["livenessProbe"]["httpGet"]["port"] == port["name"]
    assert container["args"][-2:] == ["--metrics-address", f":{port['containerPort']}"]


def test_the_rights_are_those_of_advertising_and_no_more() -> None:
    rendered = render(example())
    rules = {
        (address, *rule["apiGroups"], *rule["resources"]): (rule["verbs"], rule.get("resourceNames"))
        for address in ("capacity-cluster-role", "capacity-role", "capacity-events-role")
        for rule in manifest(rendered, address)["rules"]
        if rule["verbs"] != ["create"] or rule["resources"] != ["leases"]
    }
    assert rules == {
        ("capacity-cluster-role", "", "nodes"): (["list", "watch"], None),
        ("capacity-cluster-role", "", "nodes/status"): (["patch"], None),
        ("capacity-cluster-role", "", "pods"): (["list"], None),
        ("capacity-role", "coordination.k8s.io", "leases"): (["get", "patch"], [names.CAPACITY_LEASE]),
        ("capacity-events-role", "", "events"): (["create"], None),
    }
    assert manifest(rendered, "capacity-role")["metadata"]["namespace"] == "nvidia"
    assert manifest(rendered, "capacity-events-role")["metadata"]["namespace"] == "default"


def test_the_backstop_never_runs_twice_at_once_and_ends() -> None:
    job = manifest(render(example()), "capacity-cron-job")["spec"]
    assert (job["schedule"], job["concurrencyPolicy"]) == ("17 * * * *", "Forbid")
    assert job["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 3600
    assert job["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_without_watch_only_the_backstop_is_rendered() -> None:
    rendered = render(example(**{"watch: true": "watch: false"}))
    addresses = {item.address for item in rendered.wave(0).objects}
    assert "capacity-watch" not in addresses
    assert "capacity-cron-job" in addresses


def test_the_operators_own_runtime_class_outlives_the_stack_and_ours_does_not() -> None:
    for estate, retained in ((example(), True), (with_own_plugin(), False)):
        found = next(item for item in render(estate).objects if item.address == "runtime-class")
        assert found.retain is retained


def test_the_operator_learns_which_label_selects_which_configuration() -> None:
    """Field fault 14: a sharing block inline in the operator's values is not read, a named ConfigMap is."""
    annotations = manifest(render(example()), "device-plugin-config")["metadata"]["annotations"]
    assert json.loads(annotations["gpumem.io/node-labels"]) == {"t4-node": "nvidia.com/device-plugin.config=t4-node"}


def test_the_plugins_daemon_set_is_rendered_only_where_no_operator_is() -> None:
    plugins = [item for item in render(example()).objects if item.address.startswith("device-plugin-node")]
    assert plugins == []
    rendered = render(with_own_plugin())
    found = manifest(rendered, "device-plugin-node-t4-node")
    pod = found["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "nvcr.io/nvidia/k8s-device-plugin:v0.17.1"
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["priorityClassName"] == "system-node-critical"
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    (variable,) = container["env"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert variable == {"name": "CONFIG_FILE", "value": f"{mounts['config']}/t4-node"}
    assert volumes["config"]["configMap"]["items"] == [{"key": "t4-node", "path": "t4-node"}]
    assert volumes["device-plugins"]["hostPath"]["path"] == "/var/lib/kubelet/device-plugins"


def test_another_sharing_starts_the_plugin_again() -> None:
    stamps = {
        json.dumps(
            manifest(render(estate), "device-plugin-node-t4-node")["spec"]["template"]["metadata"]["annotations"]
        )
        for estate in (with_own_plugin(), with_own_plugin(**{"replicas: 8}": "replicas: 6}"}))
    }
    assert len(stamps) == 2
