"""The rights of `gpumem doctor`, as objects for whoever runs it in a cluster."""

from __future__ import annotations

from helpers.domain.doctor.rights import DOCTOR_ROLE, doctor_rights
from helpers.domain.estate.model import Estate
from helpers.domain.rights import policy_rules
from helpers.rendering.manifest_yaml import to_yaml
from helpers.rendering.templates import render_template


def role_text(estate: Estate) -> str:
    """A ServiceAccount, and a ClusterRole and a Role with their bindings, as a stream of YAML documents."""
    rights = doctor_rights(estate)
    objects = render_template(
        0,
        "doctor/role.yaml.j2",
        name=DOCTOR_ROLE,
        namespace=estate.namespace,
        cluster_rules=policy_rules(rights, "cluster"),
        namespace_rules=policy_rules(rights, "namespace"),
    )
    return "".join(f"---\n{to_yaml(one.manifest)}" for one in objects)
