"""The policy engine's objects for tenants: whom they can touch. What they do to a pod is shown in tests/lab."""

from __future__ import annotations

import re
from typing import Any

import pytest

from helpers.rendering.admission_tenants import tenant_policy_objects
from helpers.rendering.objects import Rendered
from tests.cases.tenant_admission.world import FILES, load_case
from tests.unit.test_framework_caps import estate


def specs(*tenants: dict[str, Any]) -> list[Any]:
    return [item.manifest["spec"] for item in tenant_policy_objects(estate(*tenants))]


def test_a_policy_sees_new_pods_of_its_tenant_and_nothing_else() -> None:
    policy, binding = specs({"apply": "admission", "pod_labels": {"app": "llm", "tier": "gpu"}})
    assert policy["matchConstraints"] == {
        "matchPolicy": "Equivalent",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ai"}},
        "objectSelector": {"matchLabels": {"app": "llm", "tier": "gpu"}},
        "resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "*"}
        ],
    }
    assert (policy["failurePolicy"], policy["reinvocationPolicy"]) == ("Fail", "IfNeeded")
    assert binding == {"policyName": "gpumem-tenant-llm"}


def test_an_estate_whose_tenants_are_rendered_or_patched_alone_has_none() -> None:
    assert specs({"pod_labels": None}) == []


def test_objects_are_of_wave_0_and_a_binding_is_behind_its_policy() -> None:
    workload = {"kind": "Deployment", "container": "main"}
    tenants = [
        {"apply": "admission", "name": name, "pod_labels": {"app": name}, "workload": {**workload, "name": name},
         "budget_mib": 1000}
        for name in ("llm", "tenant-llm", "binding-llm", "binding-tenant-llm")
    ]  # fmt: skip
    objects = tuple(tenant_policy_objects(estate(*tenants)))
    assert {(item.wave, item.component) for item in objects} == {(0, "admission")}
    assert [item.address for item in objects[:2]] == ["admission-tenant-llm", "admission-binding-tenant-llm"]
    assert len(list(Rendered(objects).ordered())) == 8, "no two have one address"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_variable_of_a_policy_is_used_and_declared_before_its_use(path: Any) -> None:
    policy = next(tenant_policy_objects(load_case(path).estate())).manifest["spec"]
    expressions = [item["expression"] for item in policy["variables"]]
    expressions.append(policy["mutations"][0]["jsonPatch"]["expression"])
    for index, item in enumerate(policy["variables"]):
        users = [re.search(rf"variables\.{item['name']}\b", expression) is not None for expression in expressions]
        assert not any(users[: index + 1]), item["name"]
        assert any(users[index + 1 :]), item["name"]
