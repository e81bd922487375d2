"""A Terraform plan as JSON (`terraform show -json`), as the two renderings that a review compares."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from helpers.domain.errors import InputError
from helpers.domain.estate.model import Estate
from helpers.domain.plan_policy.plan import MANIFEST_TYPE, STEP_TYPE
from helpers.domain.review.build import Rendering
from helpers.domain.review.documents import Document
from helpers.domain.review.planned import estate_before
from helpers.rendering.review import rendering_of

# An address that each stack has, whatever the estate.
_WAVE_MARKS = {"capacity-assert": 0, "gate": 1}


def renderings_of_plans(paths: Sequence[Path], planned: tuple[str, Estate]) -> tuple[Rendering, Rendering]:
    """What stands by the plans in `paths` (one a stack), and what `planned`, the name and the estate, makes of it.

    Raises:
        InputError: a file is no such plan, or a plan of another estate.
    """
    after = rendering_of(*planned)
    standing: dict[tuple[int, str], Document] = {}
    waves = set()
    for path in paths:
        changes = _changes(path)
        wave = _wave(changes)
        waves.add(wave)
        for change in changes:
            before = _document(wave, change, "before", path)
            if before is not None:
                standing[before.key] = before
        _same_estate(path, {key: one for key, one in after.documents.items() if key[0] == wave}, wave, changes)
    others = {key: one for key, one in after.documents.items() if key[0] not in waves}
    base = estate_before(planned[1], standing.values(), frozenset(waves))
    return Rendering("Terraform's state", base, {**others, **standing}, after.addresses), after


def _changes(path: Path) -> list[Mapping[str, Any]]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. Name a plan with --plan FILE.") from error
    except ValueError as error:
        raise InputError(f"{path}: no JSON. Make it by `terraform show -json PLAN > {path.name}.json`.") from error
    found = value.get("resource_changes") if isinstance(value, Mapping) else None
    ours = [one for one in found or () if isinstance(one, Mapping) and one.get("type") in (MANIFEST_TYPE, STEP_TYPE)]
    if not ours:
        raise InputError(
            f"{path}: holds no {MANIFEST_TYPE} and no {STEP_TYPE}, so it is no plan of an estate's stack. "
            "Make one by `terraform plan -out PLAN` and `terraform show -json PLAN` in its folder."
        )
    return ours


def _wave(changes: Sequence[Mapping[str, Any]]) -> int:
    return next((_WAVE_MARKS[str(one["name"])] for one in changes if one.get("name") in _WAVE_MARKS), 2)


def _document(wave: int, change: Mapping[str, Any], side: str, path: Path) -> Document | None:
    values = change["change"].get(side)
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise InputError(f"{path}: {change['address']} holds no manifest {side} the change. Plan again, and name that.")
    address = str(change["name"])
    if change["type"] == STEP_TYPE:
        return Document(wave, address, "Step", "", dict(values.get("triggers") or {}))
    text = values.get("yaml_body")
    body = yaml.safe_load(text) if isinstance(text, str) else None
    if not isinstance(body, dict):
        raise InputError(f"{path}: {change['address']} holds no manifest {side} the change. Plan again, and name that.")
    return Document(wave, address, str(body.get("kind", "")), "", body)


def _same_estate(
    path: Path, expected: Mapping[tuple[int, str], Document], wave: int, changes: Sequence[Mapping[str, Any]]
) -> None:
    planned = dict(_planned(wave, changes, path))
    for key in sorted({*expected, *planned}):
        wanted = expected[key].body if key in expected else None
        if planned.get(key) != wanted:
            raise InputError(
                f"{path}: {key[1]} is planned otherwise than the estate of -f renders it: a plan of another estate, or "
                "an older one. Synthesise and plan again."
            )


def _planned(
    wave: int, changes: Sequence[Mapping[str, Any]], path: Path
) -> Iterator[tuple[tuple[int, str], Mapping[str, Any]]]:
    for change in changes:
        document = _document(wave, change, "after", path)
        if document is not None:
            yield document.key, document.body
