"""A budget as a claim at admission: the number and the shares go, the claim's reference comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from helpers.domain.admission import pods
from helpers.domain.dra.claims import CLAIM, with_claim


def has_claim(pod: Mapping[str, Any]) -> bool:
    """Whether the pod has a claim on memory of a card, told by its name in the pod."""
    return any(item.get("name") == CLAIM for item in pod["spec"].get("resourceClaims") or ())


def put_claim(
    spec: Mapping[str, Any], index: int, template: str, given_up: Iterable[str]
) -> tuple[dict[str, Any], str]:
    """`spec` whose container at `index` has the claim and nothing of `given_up`; and what went, as `name=amount, …`.

    A limit counts where limit and request differ. Applied to its own result it changes nothing.
    """
    container = spec["containers"][index]
    declared = {**pods.requests(container), **pods.limits(container)}
    gone = [f"{name}={declared[name]}" for name in given_up if name in declared]
    resources = dict(container.get("resources") or {})
    for part in ("limits", "requests"):
        left = {name: amount for name, amount in (resources.pop(part, None) or {}).items() if name not in given_up}
        if left:
            resources[part] = left
    containers = list(spec["containers"])
    containers[index] = {**container, "resources": resources}
    return with_claim({**spec, "containers": containers}, container["name"], template), ", ".join(gone)
