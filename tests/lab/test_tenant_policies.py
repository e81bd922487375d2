"""The case table through the API server's own policy engine: the pods are those of the Python engine, to the byte.

Every create is a server-side dry run, which goes through admission and defaulting like a real one. Each
case has a namespace of its own with its rule's policy; `plain` has none, and what Python made is sent there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from helpers.domain.admission.tenant_rules import apply_tenant_rule
from helpers.rendering.admission_tenants import tenant_policy_objects
from lab.api import Api
from lab.cluster import Lab
from lab.waiting import wait_for
from tests.cases.tenant_admission.world import FILES, Case, load_case, shown

pytestmark = pytest.mark.lab

PLAIN = "plain"
CASES = [load_case(path) for path in FILES]
ELSEWHERE = "elsewhere"
GROUP = "/apis/admissionregistration.k8s.io/v1"
PLURALS = {
    "MutatingAdmissionPolicy": "mutatingadmissionpolicies",
    "MutatingAdmissionPolicyBinding": "mutatingadmissionpolicybindings",
}
SERVERS_OWN = ("uid", "creationTimestamp", "managedFields", "resourceVersion", "generation")


def namespace_of(case: Case) -> str:
    return f"case-{CASES.index(case)}"


def created(api: Api, namespace: str, pod: dict[str, Any]) -> dict[str, Any]:
    """`pod` as the server would store it in `namespace`."""
    metadata = {**{key: value for key, value in pod["metadata"].items() if value is not None}, "namespace": namespace}
    return api.post(f"/api/v1/namespaces/{namespace}/pods?dryRun=All", {**pod, "metadata": metadata})


def bare(pod: dict[str, Any]) -> dict[str, Any]:
    """What of a stored pod is the same however often it is created."""
    metadata = {key: value for key, value in pod["metadata"].items() if key not in (*SERVERS_OWN, "namespace")}
    if "generateName" in metadata:
        metadata.pop("name", None)
    return {**{key: value for key, value in pod.items() if key != "status"}, "metadata": metadata}


def in_bytes(pod: dict[str, Any]) -> str:
    """Order and all."""
    return json.dumps(bare(pod), indent=1, ensure_ascii=False)


def own_policies(case: Case) -> Iterator[dict[str, Any]]:
    """The case's policy and binding under a name of their own: all tenants of the table are called alike."""
    namespace = namespace_of(case)
    for item in tenant_policy_objects(case.estate(namespace)):
        manifest = json.loads(json.dumps(item.manifest))
        manifest["metadata"]["name"] = namespace
        if "policyName" in manifest["spec"]:
            manifest["spec"]["policyName"] = namespace
        yield manifest


@pytest.fixture(scope="module")
def api(lab: Lab) -> Api:
    return lab.api()


@pytest.fixture(scope="module")
def policies(api: Api) -> Iterator[None]:
    """Every case's policy is in force."""
    namespaces = [PLAIN, ELSEWHERE, *map(namespace_of, CASES)]
    try:
        for name in namespaces:
            api.post("/api/v1/namespaces", {"metadata": {"name": name}})
        for case in CASES:
            for manifest in own_policies(case):
                api.post(f"{GROUP}/{PLURALS[manifest['kind']]}", manifest)
        for name in namespaces:
            # Pods are refused before their namespace has its service account.
            wait_for(partial(api.exists, f"/api/v1/namespaces/{name}/serviceaccounts/default"))
        for case in CASES:
            wait_for(partial(in_force, api, case))
        yield
    finally:
        for case in CASES:
            for plural in PLURALS.values():
                api.delete(f"{GROUP}/{plural}/{namespace_of(case)}")
        for name in namespaces:
            api.delete(f"/api/v1/namespaces/{name}")


def in_force(api: Api, case: Case) -> bool:
    return "annotations" in created(api, namespace_of(case), probe(case))["metadata"]


def probe(case: Case) -> dict[str, Any]:
    """A pod of the case's that shows whether its policy is in force."""
    spec = {"containers": [{"name": "main", "image": "registry.example.com/llm:1"}]}
    labels = case.rule().pod_labels
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", "labels": labels}, "spec": spec}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_engines_give_the_same_pod(api: Api, policies: None, case: Case) -> None:
    namespace = ELSEWHERE if case.foreign else namespace_of(case)
    pod = case.pod_in(namespace)
    by_policy = created(api, namespace, pod)
    by_python = apply_tenant_rule(pod, case.rule())[0] if case.expect is not None else pod
    assert in_bytes(by_policy) == in_bytes(created(api, PLAIN, by_python))
    if case.expect is None:
        return
    found = shown(by_policy, case.rule())
    assert {key: found[key] for key in case.expect if key != "container"} == {
        key: text for key, text in case.expect.items() if key != "container"
    }
    # On the server's own form of the result neither engine changes anything.
    again = bare(by_policy)
    assert in_bytes(created(api, namespace, again)) == in_bytes(by_policy)
    assert apply_tenant_rule(again, case.rule())[0] == again


def test_the_server_stores_a_policy_as_it_is_rendered(api: Api, policies: None) -> None:
    """What it would add or respell, Terraform would plan to change for ever."""
    for case in CASES:
        for manifest in own_policies(case):
            stored = api.get(f"{GROUP}/{PLURALS[manifest['kind']]}/{namespace_of(case)}")
            assert stored["spec"] == manifest["spec"]
            assert stored["metadata"]["labels"] == manifest["metadata"]["labels"]
