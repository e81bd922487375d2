"""Reads a case: a tenant of a Tesla T4, a pod as its owner makes it, and what admission makes of it.

A case names what it is about; the rest is ordinary: tenant `llm` of namespace `ai`, container `main`, a budget
of 5000 MiB, pods labelled `app: llm`. In `expect`, `container` is the tenant's container afterwards, key by
key (`<script>` stands for a wrapper's text), `budget` and `cap` are the annotations, `claims` the pod's
resourceClaims, and beside a claim `others` what each other container asks for; an absent one is absent.
`backend: dra` makes the budget a claim.
Without `expect` the pod stays as it is.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from helpers.domain.admission import pods
from helpers.domain.admission.tenant_rules import TenantRule, tenant_rules
from helpers.domain.estate.model import Estate

CASES = Path(__file__).parent
FILES = sorted(CASES.glob("*.yaml"))
ESTATE = """
version: 1
kubernetes: {version: "1.36"}
resource: example.com/gpumem
image: {repository: registry.example.com/gpumem, tag: "0.1.0"}
device_plugin: {managed_by: gpu-operator}
nodes:
  - name: t4-node
    selector: {nvidia.com/gpu.present: "true"}
    gpus: [{model: Tesla T4, count: 1, physical_mib: 15360, reserve_mib: 1360}]
    sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 8}]}}
watchdog: {floor_mib: 1536}
admission: {}
"""
TENANT: dict[str, Any] = {
    "name": "llm",
    "namespace": "ai",
    "workload": {"kind": "Deployment", "name": "llm", "container": "main"},
    "node": "t4-node",
    "apply": "patch",
    "pod_labels": {"app": "llm"},
    "budget_mib": 5000,
    "class": "realtime",
    "strategy": {"type": "Recreate"},
}
SCRIPT = "<script>"


@dataclass(frozen=True)
class Case:
    """One file. `foreign`: the pod is of another namespace than the tenant's."""

    name: str
    tenant: dict[str, Any]
    label_prefix: str
    backend: str
    pod: dict[str, Any]
    foreign: bool
    expect: dict[str, Any] | None

    def estate(self, namespace: str = "ai") -> Estate:
        """The estate with this case's tenant alone."""
        fields = {**TENANT, **self.tenant, "namespace": namespace}
        document = {**yaml.safe_load(ESTATE), "tenants": [fields], "label_prefix": self.label_prefix}
        document["budget"] = {"backend": self.backend}
        return Estate.model_validate(document)

    def rule(self, namespace: str = "ai") -> TenantRule:
        """The tenant's rule."""
        (rule,) = tenant_rules(self.estate(namespace))
        return rule

    def pod_in(self, namespace: str) -> dict[str, Any]:
        """The pod as it is sent."""
        pod = copy.deepcopy(self.pod)
        pod["metadata"]["namespace"] = namespace
        return pod


def load_case(path: Path) -> Case:
    """The case of one file; a key that no case has is a fault of the file."""
    known = {"tenant", "label_prefix", "backend", "metadata", "foreign", "container", "spec", "expect"}
    read = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(read) <= known, f"{path.name}: {set(read) - known}"
    container = {"name": "main", "image": "registry.example.com/llm:1", **read.get("container", {})}
    # Without a token the API server adds no volume of a random name.
    spec = {"automountServiceAccountToken": False, "containers": [container], **read.get("spec", {})}
    metadata = {"name": "llm-0", "labels": {"app": "llm", "pod-template-hash": "abc"}, **read.get("metadata", {})}
    return Case(
        name=path.stem,
        tenant=read.get("tenant", {}),
        label_prefix=read.get("label_prefix", "gpumem.io"),
        backend=read.get("backend", "extendedResource"),
        pod={"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
        foreign=read.get("foreign", False),
        expect=read.get("expect"),
    )


def shown(pod: dict[str, Any], rule: TenantRule) -> dict[str, Any]:
    """`pod` in the form of `expect`: the tenant's container, the annotations, and what a claim changes besides."""
    container: dict[str, Any] = next((item for item in pod["spec"]["containers"] if item["name"] == rule.container), {})
    annotations = pod["metadata"].get("annotations", {})
    found: dict[str, Any] = {"budget": annotations.get(rule.budget_key), "cap": annotations.get(rule.cap_key)}
    found["claims"] = pod["spec"].get("resourceClaims")
    if rule.claim_template:
        found["others"] = {
            item["name"]: {**pods.requests(item), **pods.limits(item)}
            for _, _, item in pods.containers(pod)
            if item["name"] != rule.container
        } or None
    script = rule.cap.script if rule.cap else ""
    command = [SCRIPT if script and word == script else word for word in container.get("command", ())]
    container = {**container, "command": command} if command else container
    return {"container": container, **{key: value for key, value in found.items() if value is not None}}
