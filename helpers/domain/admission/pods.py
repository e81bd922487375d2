"""Reading a pod as the API server shows it to admission: what may be absent is absent, never an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from helpers.domain.errors import QuantityError
from helpers.domain.quantity import Quantity

CONTAINER_LISTS = ("containers", "initContainers")


def annotations_of(pod: Mapping[str, Any]) -> dict[str, str]:
    """The pod's annotations."""
    return dict((pod.get("metadata") or {}).get("annotations") or {})


def labels_of(pod: Mapping[str, Any]) -> dict[str, str]:
    """The pod's labels."""
    return dict((pod.get("metadata") or {}).get("labels") or {})


def copied(pod: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which rules may set the keys of the pod's spec and of its containers, and nothing deeper.

    Values are shared: a rule puts a new list or mapping where it changes one. (A deep copy takes a third of the
    time that a review may take.)
    """
    spec = dict(pod["spec"])
    spec |= {block: [dict(container) for container in spec[block]] for block in CONTAINER_LISTS if spec.get(block)}
    return {**pod, "spec": spec}


def containers(pod: Mapping[str, Any]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Every container with its list and its place in it: the ordinary ones, then init containers and sidecars."""
    for block in CONTAINER_LISTS:
        for index, container in enumerate(pod["spec"].get(block) or ()):
            yield block, index, container


def limits(container: Mapping[str, Any]) -> dict[str, Any]:
    """`resources.limits` of one container."""
    return dict((container.get("resources") or {}).get("limits") or {})


def requests(container: Mapping[str, Any]) -> dict[str, Any]:
    """`resources.requests` of one container."""
    return dict((container.get("resources") or {}).get("requests") or {})


def amount(container: Mapping[str, Any], resource: str) -> int:
    """The container's limit on `resource`; 0 where it has none, or none that an extended resource may have.

    What is no whole number is the API server's to refuse, in words of its own.
    """
    value = limits(container).get(resource)
    if value is None:
        return 0
    try:
        quantity = Quantity.parse(value if isinstance(value, str) else str(value)).value
    except QuantityError:
        return 0
    return int(quantity) if quantity.denominator == 1 else 0


def pod_amount(pod: Mapping[str, Any], resource: str) -> int:
    """What the scheduler counts: containers and sidecars together, or one init container that asks for more."""
    together, alone = 0, [0]
    for block, _, container in containers(pod):
        mine = amount(container, resource)
        if block == "containers" or container.get("restartPolicy") == "Always":
            together += mine
        else:
            alone.append(mine)
    return max(together, *alone)


def asks_for(pod: Mapping[str, Any], resources: tuple[str, ...]) -> bool:
    """Whether a container has one of `resources` among its limits."""
    return any(name in limits(container) for _, _, container in containers(pod) for name in resources)


def set_limit(container: dict[str, Any], resource: str, quantity: str) -> None:
    """Set the container's limit, and its request where it has one: of an extended resource the two are equal.

    Without a request the API server makes one from the limit.
    """
    resources = {**(container.get("resources") or {}), "limits": {**limits(container), resource: quantity}}
    if resource in requests(container):
        resources["requests"] = {**requests(container), resource: quantity}
    container["resources"] = resources
