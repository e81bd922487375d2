"""What a helper may do in the cluster, as data: each entry with its use.

Manifests render Roles and ClusterRoles from it, and tests take each verb away in turn and see what
fails without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Scope = Literal["cluster", "namespace", "default", "tenants"]


@dataclass(frozen=True, slots=True)
class Right:
    """Verbs on one resource; with `names`, on these objects only.

    `scope`: the whole `cluster`; the helper's own `namespace`; `default`, where Events about objects
    without a namespace lie; the namespaces of those `tenants` that need it.
    """

    api_group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    scope: Scope = "cluster"
    names: tuple[str, ...] = ()

    def rule(self) -> dict[str, Any]:
        """As a PolicyRule of rbac.authorization.k8s.io/v1."""
        rule: dict[str, Any] = {
            "apiGroups": [self.api_group],
            "resources": [self.resource],
            "verbs": list(self.verbs),
        }
        return rule | ({"resourceNames": list(self.names)} if self.names else {})


def policy_rules(rights: tuple[Right, ...], scope: Scope) -> list[dict[str, Any]]:
    """The rules of the ClusterRole, or of the Role in that namespace or those."""
    return [right.rule() for right in rights if right.scope == scope]
