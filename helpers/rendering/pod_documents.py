"""Pods out of a file of manifests: a Pod itself, or the pods that a workload would make."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from helpers.domain.admission.shape import shape_problem
from helpers.domain.errors import InputError

# Where a workload keeps its pods' template.
_TEMPLATE = ("spec", "template")
_TEMPLATES = {
    "Deployment": _TEMPLATE,
    "StatefulSet": _TEMPLATE,
    "DaemonSet": _TEMPLATE,
    "ReplicaSet": _TEMPLATE,
    "ReplicationController": _TEMPLATE,
    "Job": _TEMPLATE,
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


@dataclass(frozen=True)
class PodDocument:
    """One pod as a file gives it. `source` says from what (`Deployment media/plex`)."""

    source: str
    namespace: str
    pod: dict[str, Any]


def pods_in(text: str, file: str, namespace: str) -> list[PodDocument]:
    """The pods of every document that is a Pod or makes some; `namespace` where a document names none.

    Raises:
        InputError: no YAML, no pod in it, or a document that is no manifest; names file and document.
    """
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise InputError(f"{file}: no YAML: {' '.join(str(error).split())}") from error
    found = [pod for index, document in enumerate(documents) for pod in _pods(document, f"{file}[{index}]", namespace)]
    if not found:
        kinds = ", ".join(sorted({str(document.get("kind")) for document in documents})) or "nothing"
        raise InputError(f"{file}: holds {kinds}, and no pod. Known: Pod, {', '.join(_TEMPLATES)}.")
    return found


def _pods(document: Any, place: str, namespace: str) -> Iterator[PodDocument]:
    if not isinstance(document, Mapping) or not isinstance(document.get("kind"), str):
        raise InputError(
            f"{place}: a manifest is a mapping with a kind. Give what `kubectl get -o yaml` prints; an estate is named "
            "by --estate."
        )
    kind = document["kind"]
    if kind == "List":
        items = document.get("items") or []
        if not isinstance(items, list):
            raise InputError(f"{place}.items: a list of manifests. Give what `kubectl get -o yaml` prints.")
        for index, item in enumerate(items):
            yield from _pods(item, f"{place}.items[{index}]", namespace)
        return
    if kind != "Pod" and kind not in _TEMPLATES:
        return
    metadata = document.get("metadata") or {}
    here = metadata.get("namespace") or namespace if isinstance(metadata, Mapping) else None
    if not isinstance(here, str):
        raise InputError(
            f"{place}.metadata: {kind}: a mapping, and a namespace in it is a text. Write it as Kubernetes does."
        )
    pod: Any = document
    for key in _TEMPLATES.get(kind, ()):
        pod = pod.get(key) if isinstance(pod, Mapping) else None
    if not isinstance(pod, Mapping) or not isinstance(pod.get("spec"), Mapping):
        raise InputError(
            f"{place}: this {kind} has no pod: {'.'.join((*_TEMPLATES.get(kind, ()), 'spec'))} is missing."
        )
    # As it is sent: JSON, so that dates and the like are texts.
    plain = json.loads(json.dumps({"apiVersion": "v1", "kind": "Pod", **pod}, default=str))
    if problem := shape_problem(plain):
        raise InputError(f"{place}: {kind}: {problem}. Write the pod as Kubernetes does.")
    name = metadata.get("name") or metadata.get("generateName", "")
    yield PodDocument(f"{kind} {here}/{name}", here, plain)
