"""Some of what an estate renders, as YAML: to put one object back without touching the others."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.domain.errors import InputError
from helpers.domain.estate.suggestion import did_you_mean
from helpers.rendering.manifest_yaml import to_yaml
from helpers.rendering.objects import Rendered, RenderedObject


def chosen_stream(rendered: Rendered, only: Sequence[str]) -> str:
    """The objects called `Kind/name` or `Kind/namespace/name`, in dependency order.

    Raises:
        InputError: nothing of that name is rendered; names the closest.
    """
    objects = [item for item in rendered.ordered() if isinstance(item, RenderedObject)]
    known = {_path_of(item) for item in objects}
    for wanted in only:
        if wanted not in known:
            raise InputError(f"--only {wanted}: the estate renders no such object; {did_you_mean(wanted, known)}")
    return "".join(f"---\n{to_yaml(item.manifest)}" for item in objects if _path_of(item) in only)


def _path_of(item: RenderedObject) -> str:
    metadata = item.manifest["metadata"]
    return "/".join(part for part in (item.kind, metadata.get("namespace"), metadata["name"]) if part)
