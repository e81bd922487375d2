"""Which workload a pod belongs to, read from the pod alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A Deployment's ReplicaSet is called after it and this label's value, which its pods carry as well.
TEMPLATE_HASH = "pod-template-hash"


def controller(metadata: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The owner reference of what controls the object; None where nothing does."""
    return next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), None)


def workload_of(metadata: Mapping[str, Any]) -> tuple[str, str]:
    """Kind and name of what made the pod: the Deployment, not its ReplicaSet. Two empty texts: nothing did."""
    owner = controller(metadata)
    if owner is None:
        return ("", "")
    kind, name = str(owner["kind"]), str(owner["name"])
    tail = f"-{(metadata.get('labels') or {}).get(TEMPLATE_HASH, '')}"
    if kind == "ReplicaSet" and len(tail) > 1 and name.endswith(tail):
        return ("Deployment", name.removesuffix(tail))
    return (kind, name)
