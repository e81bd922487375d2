"""What the case table does not show of caps: numbers at the edges, cards of several sizes, rendered tenants."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import yaml

from helpers.domain.admission.caps import framework_cap
from helpers.domain.admission.tenant_rules import held_by, tenant_cap, tenant_rules
from helpers.domain.estate.framework import Framework, FrameworkName
from helpers.domain.estate.model import Estate
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.render import render
from lab.foreign import foreign_workload
from tests.cases.tenant_admission.world import ESTATE, TENANT
from tests.synth.estates import example

NEEDED: dict[str, dict[str, Any]] = {
    "sglang": {"overhead_mib": 600},
    "ollama": {"version": "0.33.0"},
    "pytorch": {"version": "2.10.0"},
    "jax": {"version": "0.10.2"},
    "cuda-mps": {"mps_pipe_directory": "/run/mps"},
}


def framework(name: str, **fields: Any) -> Framework:
    return Framework.model_validate({"name": name, **NEEDED.get(name, {}), **fields})


def estate(*tenants: dict[str, Any], **changes: Any) -> Estate:
    document = {**yaml.safe_load(ESTATE), **changes, "tenants": [{**TENANT, **fields} for fields in tenants]}
    return parse_estate(yaml.safe_dump(document), "test")[0]


@pytest.mark.parametrize("name", get_args(FrameworkName))
@pytest.mark.parametrize("budget_mib", [700, 5000, 14000])
def test_every_framework_has_an_answer_on_one_line(name: str, budget_mib: int) -> None:
    cap = framework_cap(framework(name), budget_mib, 15360)
    for text in (cap.text_set(), *map(cap.text_of, cap.obstacles())):
        assert text.startswith(f"{framework(name).label()}: ")
        assert text.isascii()
        assert "\n" not in text
    assert (cap.kind == "none") == (cap.setting == "")
    assert str(budget_mib) in cap.text_set() or cap.held_by == "scheduler only"


@pytest.mark.parametrize(("budget_mib", "physical_mib"), [(5000, 15360), (1, 15360), (15359, 15360), (8, 81559)])
@pytest.mark.parametrize("name", ["vllm", "pytorch", "jax"])
def test_a_fraction_is_between_0_and_1_and_never_above_the_budget(
    name: str, budget_mib: int, physical_mib: int
) -> None:
    fraction = float(framework_cap(framework(name), budget_mib, physical_mib).setting.rpartition("=")[2].split(":")[-1])
    assert 0 < fraction < 1
    # A thousandth of a card is the least that can be said.
    assert fraction * physical_mib <= max(budget_mib, physical_mib / 1000)


@pytest.mark.parametrize(
    ("version", "reached"),
    [("0.30.0", True), ("0.30", True), ("0.29.9", False), ("1.0", True), ("0.30.0-rc2", True), ("0.3", False)],
)
def test_versions_are_compared_as_numbers(version: str, reached: bool) -> None:
    assert framework("ollama", version=version).at_least(0, 30) == reached


def test_a_fraction_is_of_the_largest_card_that_the_tenant_may_get() -> None:
    cards = [
        {"model": "Tesla T4", "count": 1, "physical_mib": 15360, "reserve_mib": 1360},
        {"model": "NVIDIA L4", "count": 1, "physical_mib": 23034, "reserve_mib": 1034},
    ]
    node = {"name": "t4-node", "selector": {"a": "b"}, "gpus": cards}
    workload = {**TENANT["workload"], "name": "b"}
    vllm = {"framework": {"name": "vllm"}, "shares": 0}
    only_t4 = {**vllm, "name": "b", "workload": workload, "pod_labels": {"app": "b"}, "gpu_model": "Tesla T4"}
    found = estate(vllm, only_t4, nodes=[node])
    caps = [tenant_cap(found.nodes[0], tenant) for tenant in found.tenants]
    assert [cap.setting for cap in caps if cap] == ["--gpu-memory-utilization=0.217", "--gpu-memory-utilization=0.325"]


def test_rules_are_for_tenants_whose_pods_admission_knows() -> None:
    assert tenant_rules(example()) == ()
    (rule,) = tenant_rules(estate({"apply": "admission"}))
    assert (rule.limits, rule.cap) == ({"example.com/gpumem": "5k", "nvidia.com/gpu": "1"}, None)


def test_a_tenant_by_admission_has_no_step_and_no_object() -> None:
    rendered = render(estate({"apply": "admission"}))
    assert [step.address for step in rendered.steps if step.wave == 1] == ["gate"]
    assert [item.address for item in rendered.objects if item.wave == 1] == []


@pytest.mark.parametrize("labels", [{"app": "llm"}, {"app.kubernetes.io/name": "other"}])
def test_the_labs_owner_gives_pods_the_labels_that_admission_looks_for(labels: dict[str, str]) -> None:
    found = estate({"apply": "admission", "pod_labels": labels})
    spec = foreign_workload(found, found.tenants[0])["spec"]
    pod_labels = spec["template"]["metadata"]["labels"]
    assert labels.items() <= pod_labels.items()
    assert spec["selector"]["matchLabels"].items() <= pod_labels.items()


def test_a_tenant_by_admission_rolls_as_its_owner_says() -> None:
    without = {key: value for key, value in TENANT.items() if key != "strategy"}
    found = Estate.model_validate({**yaml.safe_load(ESTATE), "tenants": [{**without, "apply": "admission"}]})
    assert found.tenants[0].surge_count() == 1


POD = "    pod:\n      containers:\n        - name: stt\n          image: registry.example.com/portal-stt:2.3.0\n"
PYTORCH = '    framework: {name: pytorch, version: "2.10.0"}\n'


def portal_template(pod: str = POD, framework_line: str = PYTORCH) -> Any:
    rendered = render(example(**{POD: framework_line + pod}))
    manifest = next(item.manifest for item in rendered.objects if item.address == "tenant-portal-stt")
    return manifest["spec"]["template"]


def test_a_rendered_tenant_has_its_cap_in_the_pod_and_why_in_the_annotation() -> None:
    template = portal_template()
    (container,) = template["spec"]["containers"]
    assert container["env"] == [{"name": "PYTORCH_ALLOC_CONF", "value": "per_process_memory_fraction:0.097"}]
    assert container["resources"]["limits"]["viktorbarzin.me/gpumem"] == "1500"
    text = template["metadata"]["annotations"]["gpumem.io/framework-cap"]
    assert text.startswith("pytorch 2.10.0: soft cap: set PYTORCH_ALLOC_CONF=per_process_memory_fraction:0.097: ")


def test_a_rendered_tenants_own_setting_stays() -> None:
    own = "          env: [{name: PYTORCH_CUDA_ALLOC_CONF, value: backend:native}]\n"
    template = portal_template(POD + own)
    assert [item["name"] for item in template["spec"]["containers"][0]["env"]] == ["PYTORCH_CUDA_ALLOC_CONF"]
    assert "scheduler only: not set" in template["metadata"]["annotations"]["gpumem.io/framework-cap"]


def test_a_rendered_tenant_without_a_framework_has_no_annotation() -> None:
    assert "annotations" not in portal_template(framework_line="")["metadata"]


def test_what_holds_a_tenant_is_what_its_own_pod_lets_be_set() -> None:
    def held(lines: str) -> str:
        found = example(**{POD: lines})
        tenant = found.tenant("portal-stt")
        assert tenant is not None
        return held_by(found.nodes[0], tenant)

    own = "          env: [{name: PYTORCH_CUDA_ALLOC_CONF, value: backend:native}]\n"
    assert held(POD) == "scheduler only"
    assert held(PYTORCH + POD) == "soft cap"
    assert held(PYTORCH + POD + own) == "scheduler only"
    assert held("    framework: {name: tensorflow}\n" + POD) == "scheduler only"
    assert held("    framework: {name: cuda-mps, mps_pipe_directory: /run/mps}\n" + POD) == "hard cap"
