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
    """`spec` whose container at `index` has the claim and none of whose containers has any of `given_up`.

    And what went: `name=amount, …`, the other containers' behind it as `name=amount in sidecar`. They lose it, too: a
    share in a sidecar would choose a second card, which no claim counts. A limit counts where limit and request
    differ. Applied to its own result it changes nothing.
    """
    names = tuple(given_up)
    mine: list[str] = []
    others: list[str] = []
    changed: dict[str, Any] = {**spec}
    for block in pods.CONTAINER_LISTS:
        for place, container in enumerate(spec.get(block) or ()):
            gone = _declared(container, names)
            if (block, place) == ("containers", index):
                mine = gone
            else:
                others += [f"{text} in {container.get('name', '')}" for text in gone]
            if gone:
                changed[block] = [*changed[block]]
                changed[block][place] = _without(container, names)
    return with_claim(changed, spec["containers"][index]["name"], template), ", ".join([*mine, *others])


def _declared(container: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    declared = {**pods.requests(container), **pods.limits(container)}
    return [f"{name}={declared[name]}" for name in names if name in declared]


def _without(container: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    resources = dict(container.get("resources") or {})
    for part in ("limits", "requests"):
        left = {name: amount for name, amount in (resources.pop(part, None) or {}).items() if name not in names}
        if left:
            resources[part] = left
    return {**container, "resources": resources}
