"""The rights of `gpumem doctor`, as objects for whoever runs it in a cluster."""

from __future__ import annotations

from typing import Any

from helpers.domain.doctor.rights import DOCTOR_ROLE, doctor_rights
from helpers.domain.estate.model import Estate
from helpers.domain.rights import Scope, policy_rules
from helpers.rendering.manifest_yaml import to_yaml

_GROUP = "rbac.authorization.k8s.io"


def role_objects(estate: Estate) -> list[dict[str, Any]]:
    """A ServiceAccount, and a ClusterRole and a Role with their bindings: nothing but reading."""
    account = {"kind": "ServiceAccount", "name": DOCTOR_ROLE, "namespace": estate.namespace}
    place = {"name": DOCTOR_ROLE, "namespace": estate.namespace}
    objects: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": place}]
    scopes: tuple[tuple[str, Scope], ...] = (("ClusterRole", "cluster"), ("Role", "namespace"))
    for kind, scope in scopes:
        metadata = {"name": DOCTOR_ROLE} if scope == "cluster" else place
        version = f"{_GROUP}/v1"
        rules = policy_rules(doctor_rights(estate), scope)
        objects.append({"apiVersion": version, "kind": kind, "metadata": metadata, "rules": rules})
        reference = {"apiGroup": _GROUP, "kind": kind, "name": DOCTOR_ROLE}
        binding = {"metadata": metadata, "roleRef": reference, "subjects": [account]}
        objects.append({"apiVersion": version, "kind": f"{kind}Binding", **binding})
    return objects


def role_text(estate: Estate) -> str:
    """The same as a stream of YAML documents."""
    return "".join(f"---\n{to_yaml(one)}" for one in role_objects(estate))
