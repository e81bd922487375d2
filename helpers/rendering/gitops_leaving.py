"""What an AppProject stops allowing: Argo CD looks away from it from then on, and never prunes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from helpers.domain.errors import InputError
from helpers.rendering.gitops import ENGINE_FOLDER, DeliveredFolder
from helpers.rendering.gitops_argocd import PROJECT_ADDRESS

_PROJECT_FILE = f"2-{PROJECT_ADDRESS}.yaml"


def leaving(folder: Path, delivery: Sequence[DeliveredFolder]) -> list[str]:
    """What the project written under `folder` allows and that of `delivery` does not, sorted.

    Asked before `folder` is written anew. Empty where one of the two is not there: there is nothing to compare.

    Raises:
        InputError: the file there is no project of ours.
    """
    new = [item.manifest["spec"] for part in delivery for item in part.objects if item.address == PROJECT_ADDRESS]
    file = folder / ENGINE_FOLDER / _PROJECT_FILE
    if not new or not file.exists():
        return []
    try:
        old = set(_allowed(yaml.safe_load(file.read_text(encoding="utf-8"))["spec"]))
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise InputError(
            f"{file}: is no AppProject as `render` writes it ({error!r}), so what it allowed is unknown. Restore it "
            "from Git; or delete it, if nothing was delivered with it."
        ) from error
    return sorted(old - set(_allowed(new[0])))


def _allowed(spec: Any) -> Iterator[str]:
    for place in spec["destinations"]:
        yield f"everything in namespace {place['namespace']}"
    for entry in spec["clusterResourceWhitelist"]:
        yield f"{entry['kind']} {entry['name']}"
    for entry in spec["namespaceResourceWhitelist"]:
        yield f"every {entry['kind']}"
