"""A helper's ServiceAccount with exactly its rights, or with one right less, so that a test sees what it is for."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from helpers.domain.rights import Right, Scope, policy_rules
from lab.api import ApiError
from lab.cluster import Lab

_AUTHORIZATION = "/apis/rbac.authorization.k8s.io/v1"


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
        The account's kubeconfig.
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
        role = {"metadata": {"name": name}, "rules": [rule for rule in rules if rule["verbs"]]}
        api.delete(f"{base}/{kind.lower()}s/{name}")
        api.post(f"{base}/{kind.lower()}s", role)
        subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
        binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
        with contextlib.suppress(ApiError):
            api.post(f"{base}/{kind.lower()}bindings", binding)
    return lab.service_account_kubeconfig(namespace, account)
