"""The rendering as plain YAML: a folder a wave, a file an object, the same bytes for the same estate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from helpers.domain.errors import InputError
from helpers.rendering import gpu_operator, talos
from helpers.rendering.manifest_yaml import to_yaml
from helpers.rendering.objects import WAVE_FOLDERS, Rendered, RenderedObject, Step

FILE_FOLDERS = (gpu_operator.FOLDER, talos.FOLDER)
INDEX_FILE = ".gpumem-render.json"
STEPS_FILE = "steps.yaml"
# `kubectl apply -f FOLDER` goes by file name; what others live in or refer to comes first.
_EARLY_KINDS = {"Namespace": "0", "PriorityClass": "1", "RuntimeClass": "1", "ServiceAccount": "1", "ConfigMap": "1"}
_LATE_KINDS = dict.fromkeys(("CronJob", "DaemonSet", "Deployment", "StatefulSet"), "3")


def write_tree(rendered: Rendered, folder: Path) -> list[Path]:
    """Write `rendered` under `folder` and remove what an earlier call wrote and this one does not.

    Files that no earlier call wrote are never touched; `INDEX_FILE` remembers which are ours.
    What Terraform runs between the objects stands in `STEPS_FILE`, outside the waves' folders, so
    that those hold nothing but Kubernetes objects.

    Returns:
        The files written, relative to `folder`, sorted.

    Raises:
        InputError: the folder cannot be written.
    """
    texts = {_file_of(item): to_yaml(item.manifest) for item in rendered.objects}
    texts |= {item.path: item.text for item in rendered.files}
    texts[STEPS_FILE] = to_yaml(_steps(rendered))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(_indexed(folder) - set(texts)):
            (folder / name).unlink(missing_ok=True)
        for name, text in sorted(texts.items()):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        (folder / INDEX_FILE).write_text(json.dumps(sorted(texts), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{error.filename or folder}: cannot be written: {error.strerror}. Name another folder with --output-dir."
        ) from error
    return [Path(name) for name in sorted(texts)]


def to_stream(rendered: Rendered) -> str:
    """All objects as one stream of YAML documents, in dependency order; steps are not in it."""
    documents = [to_yaml(item.manifest) for item in rendered.ordered() if isinstance(item, RenderedObject)]
    return "".join(f"---\n{document}" for document in documents)


def _file_of(item: RenderedObject) -> str:
    rank = _EARLY_KINDS.get(item.kind) or _LATE_KINDS.get(item.kind, "2")
    return f"{WAVE_FOLDERS[item.wave]}/{rank}-{item.address}.yaml"


def _steps(rendered: Rendered) -> Mapping[str, list[Mapping[str, object]]]:
    waves: dict[str, list[Mapping[str, object]]] = {}
    for item in rendered.ordered():
        if isinstance(item, Step):
            entry = {
                "address": item.address,
                "after": list(item.after),
                "on": item.on,
                "run": ["gpumem", *item.arguments],
                "triggers": dict(item.triggers),
            }
            waves.setdefault(WAVE_FOLDERS[item.wave], []).append(entry)
    return waves


def _indexed(folder: Path) -> set[str]:
    """What the last call wrote. An index that is not of our making removes nothing."""
    try:
        names = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return set()
    if not isinstance(names, list):
        return set()
    known = {*WAVE_FOLDERS.values(), *FILE_FOLDERS}
    return {
        name
        for name in names
        if isinstance(name, str)
        and (name == STEPS_FILE or (name.count("/") == 1 and name.split("/")[0] in known and name.endswith(".yaml")))
    }
