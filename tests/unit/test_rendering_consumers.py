"""Wave 1: tenants as they are applied."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.rendering.objects import Rendered, Step
from helpers.rendering.render import render
from tests.synth.estates import example

POD = "    pod:\n      containers:\n        - name: stt\n"
REPLICAS = "budget_mib: 1500\n"


def manifest(rendered: Rendered, address: str) -> Any:
    return next(item.manifest for item in rendered.objects if item.wave == 1 and item.address == address)


def step(rendered: Rendered, address: str) -> Step:
    return next(item for item in rendered.steps if item.address == address)


def portal(**replaced: str) -> Any:
    return manifest(render(example(**replaced)), "tenant-portal-stt")


def pod_with(lines: str) -> Any:
    return portal(**{POD: POD.replace("    pod:\n", f"    pod:\n{lines}")})["spec"]["template"]["spec"]


def test_budget_and_shares_are_limits_of_the_named_container_alone() -> None:
    sidecar = "        - name: proxy\n          image: registry.example.com/proxy:1\n"
    found = portal(**{POD: POD.replace("        - name: stt\n", f"{sidecar}        - name: stt\n")})
    proxy, stt = found["spec"]["template"]["spec"]["containers"]
    assert "resources" not in proxy
    assert stt["resources"] == {"limits": {"viktorbarzin.me/gpumem": "1500", "nvidia.com/gpu": "1"}}


def test_a_tenant_without_shares_asks_for_none() -> None:
    found = portal(**{REPLICAS: f"{REPLICAS}    shares: 0\n"})
    limits = found["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"viktorbarzin.me/gpumem": "1500"}


def test_other_limits_of_the_container_are_kept_and_canonical() -> None:
    image = "image: registry.example.com/portal-stt:2.3.0\n"
    found = portal(**{image: f"{image}          resources: {{limits: {{memory: 2048Mi}}, requests: {{cpu: 2}}}}\n"})
    assert found["spec"]["template"]["spec"]["containers"][0]["resources"] == {
        "limits": {"memory": "2Gi", "viktorbarzin.me/gpumem": "1500", "nvidia.com/gpu": "1"},
        "requests": {"cpu": "2"},
    }


def test_the_estate_decides_runtime_class_nodes_priority_and_tolerations() -> None:
    pod = portal()["spec"]["template"]["spec"]
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["priorityClassName"] == "gpu-realtime"
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_a_toleration_that_the_pod_has_is_not_repeated_and_its_others_stay() -> None:
    mine = "{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}, {key: spot, operator: Exists}"
    pod = pod_with(f"      tolerations: [{mine}]\n")
    assert [item["key"] for item in pod["tolerations"]] == ["nvidia.com/gpu", "spot"]


def test_a_node_selector_of_the_pods_own_is_merged() -> None:
    pod = pod_with('      nodeSelector: {zone: a, nvidia.com/gpu.present: "true"}\n')
    assert pod["nodeSelector"] == {"zone": "a", "nvidia.com/gpu.present": "true"}


@pytest.mark.parametrize(
    ("lines", "strategy"),
    [
        ("", {"type": "Recreate"}),
        ("    replicas: 2\n", {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}),
    ],
)
def test_a_rollout_needs_no_room_on_a_full_card(lines: str, strategy: dict[str, Any]) -> None:
    found = portal(**{REPLICAS: f"{REPLICAS}{lines}", "reserve_mib: 1360": "reserve_mib: 100"})
    assert found["spec"]["strategy"] == strategy


def test_kinds_without_a_strategy_get_none() -> None:
    frigate = manifest(render(example()), "tenant-frigate")
    assert frigate["kind"] == "StatefulSet"
    assert frigate["spec"]["serviceName"] == "frigate"
    assert "strategy" not in frigate["spec"]


def test_labels_say_tenant_and_class_and_the_selector_holds_only_what_never_changes() -> None:
    found = portal(**{"label_prefix: gpumem.io": "label_prefix: vram.example.com"})
    labels = found["spec"]["template"]["metadata"]["labels"]
    assert labels["vram.example.com/tenant"] == "portal-stt"
    assert labels["vram.example.com/class"] == "realtime"
    selector = found["spec"]["selector"]["matchLabels"]
    assert selector == {"app.kubernetes.io/name": "portal-stt", "app.kubernetes.io/managed-by": "gpumem"}
    assert selector.items() <= labels.items()


def test_replicas_are_set_by_a_step_behind_the_workload() -> None:
    rendered = render(example(**{"label_prefix: gpumem.io": "label_prefix: vram.example.com"}))
    found = step(rendered, "replicas-portal-stt")
    assert found.arguments == ("replicas", "set")
    assert found.after == ("tenant-portal-stt",)
    assert found.triggers == {
        "tenant": "portal-stt",
        "namespace": "portal",
        "kind": "Deployment",
        "workload": "portal-stt",
        "replicas": "1",
        "label_prefix": "vram.example.com",
    }


def test_a_namespace_that_holds_only_foreign_workloads_is_left_to_its_owner() -> None:
    """The provider would take over the fields of whoever applied it, and lose them at the next change."""
    namespaces = {o.manifest["metadata"]["name"] for o in render(example()).wave(1).objects if o.kind == "Namespace"}
    assert namespaces == {"frigate", "llama-cpp", "portal"}


def test_a_quota_counts_requests_in_canonical_form() -> None:
    quota = manifest(render(example(**{"budget_mib: 9000": "budget_mib: 5000"})), "quota-immich")
    assert quota["spec"] == {"hard": {"requests.viktorbarzin.me/gpumem": "5k"}}


def test_a_priority_class_preempts_only_where_the_estate_says_so() -> None:
    rendered = render(example(**{"preempt: false": "preempt: true"}))
    assert manifest(rendered, "priority-class-gpu-realtime")["preemptionPolicy"] == "PreemptLowerPriority"
    assert manifest(rendered, "priority-class-gpu-batch")["preemptionPolicy"] == "Never"


def test_the_gate_runs_again_exactly_when_a_consumer_or_a_number_changes() -> None:
    def triggers(**replaced: str) -> dict[str, str]:
        return dict(step(render(example(**replaced)), "gate").triggers)

    base = triggers()
    changed = {
        "budget_mib: 1500": "budget_mib: 1400",  # a manifest
        "budget_mib: 1800": "budget_mib: 1700",  # triggers of a step
        "reserve_mib: 1360": "reserve_mib: 1300",
        "timeout_seconds: 120": "timeout_seconds: 60",
    }
    for old, new in changed.items():
        assert triggers(**{old: new}) != base, old
    for old, new in {"floor_mib: 1536": "floor_mib: 1000", '"17 * * * *"': '"18 * * * *"'}.items():
        assert triggers(**{old: new}) == base, old


def test_tenants_whose_names_look_like_prefixes_do_not_collide() -> None:
    renamed = {
        "name: immich-ml": "name: unset-budget-x",
        "name: immich-server\n    namespace": "name: x\n    namespace",
    }
    addresses = [item.address for item in render(example(**renamed)).ordered() if item.wave == 1]
    assert len(addresses) == len(set(addresses))
    assert {"budget-unset-budget-x", "unset-budget-x", "budget-x"} <= set(addresses)
