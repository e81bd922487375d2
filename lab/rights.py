"""A helper's ServiceAccount with exactly its rights, or with one right less, so that a test sees what it is for."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from helpers.domain.rights import Right, Scope, policy_rules
from lab.api import APPLY_PATCH, Api, ApiError
from lab.cluster import Lab
from lab.waiting import wait_for

_API_VERSION = "rbac.authorization.k8s.io/v1"
_AUTHORIZATION = f"/apis/{_API_VERSION}"


def grant_rights(
    lab: Lab,
    namespace: str,
    account: str,
    rights: tuple[Right, ...],
    places: Sequence[tuple[Scope, str]],
    *,
    without: str = "",
) -> Path:
    """Makes the account in `namespace` and binds `rights` to it, but for `without` (`verb resource`).

    Args:
        lab: The lab.
        namespace: The account's; it exists.
        account: The ServiceAccount's name.
        rights: All that the helper may do.
        places: In which namespace the rights of each scope hold; for `cluster` the namespace is ignored.
        without: One verb of one resource to leave out.

    Returns:
        The account's kubeconfig; the rights are in force.
    """
    api = lab.api()
    with contextlib.suppress(ApiError):
        api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": account}})
    for scope, where in places:
        kind = "ClusterRole" if scope == "cluster" else "Role"
        base = _AUTHORIZATION if scope == "cluster" else f"{_AUTHORIZATION}/namespaces/{where}"
        name = f"{namespace}-{account}"
        rules = [
            {**rule, "verbs": [verb for verb in rule["verbs"] if f"{verb} {rule['resources'][0]}" != without]}
            for rule in policy_rules(rights, scope)
        ]
        role = {
            "apiVersion": _API_VERSION,
            "kind": kind,
            "metadata": {"name": name},
            "rules": [rule for rule in rules if rule["verbs"]],
        }
        # No moment without it: somebody may be at work with these rights already.
        api.patch(f"{base}/{kind.lower()}s/{name}", role, APPLY_PATCH, fieldManager="lab", force="true")
        subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
        binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
        with contextlib.suppress(ApiError):
            api.post(f"{base}/{kind.lower()}bindings", binding)
    user = f"system:serviceaccount:{namespace}:{account}"
    for scope, where in places:
        for right in (one for one in rights if one.scope == scope):
            wait_for(partial(_in_force, lab, user, right, "" if scope == "cluster" else where, without))
    return lab.service_account_kubeconfig(namespace, account)


def _in_force(lab: Lab, user: str, right: Right, namespace: str, without: str) -> bool:
    """Whether the API server's own copies of Role and binding say so already, of each verb."""
    resource, _, subresource = right.resource.partition("/")
    attributes = {"group": right.api_group, "resource": resource, "subresource": subresource}
    attributes |= {"namespace": namespace, "name": next(iter(right.names), "")}
    return all(
        allowed(lab.api(), user, attributes | {"verb": verb}) == (f"{verb} {right.resource}" != without)
        for verb in right.verbs
    )


def allowed(api: Api, user: str, attributes: Mapping[str, str], groups: Sequence[str] = ()) -> bool:
    """The API server's own word (SubjectAccessReview) on what `user` asks for, as `resourceAttributes` spell it."""
    spec = {"user": user, "groups": list(groups), "resourceAttributes": dict(attributes)}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    return bool(api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"])
