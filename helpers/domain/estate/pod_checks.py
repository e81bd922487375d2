"""What must hold of a `create` tenant's PodSpec so that the budget can be put into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from helpers.domain.errors import Problem, QuantityError
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import WHOLE_GPU_RESOURCE, Node
from helpers.domain.estate.tenants import Tenant
from helpers.domain.quantity import Quantity

CONTAINER_LISTS = ("initContainers", "containers")

# PodSpec fields that the rendering fills from other keys of the estate.
_RENDERED_FROM = {
    "runtimeClassName": "runtime_class.name",
    "priorityClassName": "priority",
    "priority": "priority",
    "nodeName": "node",
}
IMAGE_IS_PINNED = "an image is pinned by a tag other than latest, or by digest"


def pod_problems(estate: Estate) -> Iterator[Problem]:
    """Problems of every `create` tenant's `pod`; the rest of the PodSpec is the API server's to judge."""
    nodes = {node.name: node for node in estate.nodes}
    for index, tenant in enumerate(estate.tenants):
        if tenant.pod is not None:
            ours = {estate.resource, WHOLE_GPU_RESOURCE}
            if tenant.node in nodes:
                ours.add(nodes[tenant.node].share_resource())
                yield from _node_selector(f"tenants[{index}].pod.nodeSelector", tenant.pod, nodes[tenant.node])
            yield from _pod(f"tenants[{index}].pod", tenant, tenant.pod, ours)


def is_pinned(image: str) -> bool:
    """Whether `image` names one version: a digest, or a tag that is not `latest`."""
    if "@sha256:" in image:
        return True
    _, colon, tag = image.rpartition("/")[2].partition(":")
    return bool(colon) and tag not in ("", "latest")


def _pod(path: str, tenant: Tenant, pod: Mapping[str, Any], ours: set[str]) -> Iterator[Problem]:
    for field, source in _RENDERED_FROM.items():
        if field in pod:
            rule = f"{field} comes from {source}; a second copy could differ"
            yield Problem(f"{path}.{field}", _scalar(pod[field]), rule, "remove it from the pod")
    containers = pod.get("containers")
    if not isinstance(containers, list) or not containers:
        yield Problem(f"{path}.containers", "", "a pod has at least one container", "add containers: [{name, image}]")
        return
    names = [item.get("name") for item in containers if isinstance(item, dict)]
    if tenant.workload.container not in names:
        known = ", ".join(str(name) for name in names)
        rule = f"workload.container ({tenant.workload.container}) is one of pod.containers"
        yield Problem(f"{path}.containers", known, rule, "make the two names agree")
    for block in CONTAINER_LISTS:
        listed = pod.get(block, [])
        if not isinstance(listed, list):
            yield Problem(f"{path}.{block}", _scalar(listed), "a list of containers", "write one `- ` line for each")
            continue
        for index, container in enumerate(listed):
            yield from _container(f"{path}.{block}[{index}]", container, ours)


def _node_selector(path: str, pod: Mapping[str, Any], node: Node) -> Iterator[Problem]:
    selector = pod.get("nodeSelector", {})
    if not isinstance(selector, dict):
        yield Problem(path, _scalar(selector), "a mapping of keys", "write {zone: a}")
        return
    for key, value in node.node_selector().items():
        if selector.get(key, value) != value:
            rule = f"the pod runs on the nodes of {node.name}, which carry {key}: {value}"
            repair = "remove it from the pod, or name another entry under node"
            yield Problem(f'{path}["{key}"]', _scalar(selector[key]), rule, repair)


def _container(path: str, container: Any, ours: set[str]) -> Iterator[Problem]:
    if not isinstance(container, dict):
        yield Problem(path, _scalar(container), "a container is a mapping", "write {name: …, image: …}")
        return
    image = container.get("image")
    if not isinstance(image, str) or not image:
        yield Problem(f"{path}.image", _scalar(image), "a container has an image", "add image: repository:tag")
    elif not is_pinned(image):
        yield Problem(f"{path}.image", image, IMAGE_IS_PINNED, "name the version that was tested")
    yield from _lists(path, container)
    resources = container.get("resources", {})
    if not isinstance(resources, dict):
        yield Problem(f"{path}.resources", _scalar(resources), "a mapping of keys", "write {limits: {memory: 2Gi}}")
        return
    for part in ("limits", "requests"):
        amounts = resources.get(part, {})
        if not isinstance(amounts, dict):
            yield Problem(f"{path}.resources.{part}", _scalar(amounts), "a mapping of keys", "write {memory: 2Gi}")
            continue
        for key, text in amounts.items():
            yield from _resource(f'{path}.resources.{part}["{key}"]', key, text, ours)


def _lists(path: str, container: Mapping[str, Any]) -> Iterator[Problem]:
    """The lists that a framework's cap is put into."""
    for key in ("command", "args"):
        words = container.get(key, [])
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            yield Problem(f"{path}.{key}", _scalar(words), "a list of texts", 'quote numbers: ["--port", "8000"]')
    for key in ("env", "envFrom"):
        items = container.get(key, [])
        named = isinstance(items, list) and all(isinstance(item, dict) for item in items)
        if not named or (key == "env" and not all(isinstance(item.get("name"), str) for item in items)):
            yield Problem(f"{path}.{key}", _scalar(items), "a list of blocks", "write - {name: NAME, value: TEXT}")


def _scalar(value: Any) -> str:
    """What to show of `value`: blocks are not printed."""
    return "" if value is None or isinstance(value, dict | list) else str(value)


def _resource(path: str, key: str, text: Any, ours: set[str]) -> Iterator[Problem]:
    if key in ours:
        rule = "budget and shares come from budget_mib and shares; a second copy could differ"
        yield Problem(path, _scalar(text), rule, "remove it from the pod")
        return
    try:
        quantity = Quantity.parse(str(text) if isinstance(text, int) and not isinstance(text, bool) else text)
        if (quantity.value * 1000).denominator != 1:
            rule = "an amount of a resource is no finer than a thousandth; the API server would round it up"
            yield Problem(path, _scalar(text), rule, "write it in thousandths, such as 1m")
    except QuantityError as error:
        # A YAML float has lost its spelling, and this project writes quantities exactly.
        form = "write it as Kubernetes does, such as 500m or 16Gi"
        repair = f'quote it: "{text}"' if isinstance(text, float) else form
        yield Problem(path, _scalar(text), str(error), repair)
