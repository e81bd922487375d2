"""Two renderings side by side: which documents differ, in which fields, and which pods that restarts.

A document is what one Terraform resource holds: an object's manifest, or a step's triggers. Values
are only told for images and resources; of everything else the path is, since a value may be a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_TOLD = ("image", "limits", "requests", "priorityClassName")
_RUNS_PODS = ("Deployment", "StatefulSet", "DaemonSet")
# What the API server refuses to change in place (apps/v1 validation).
_FIXED = ("selector", "serviceName", "volumeClaimTemplates", "podManagementPolicy")
_SHOWN_LENGTH = 80
# Files for other tools (Helm values, machine configurations) are applied by those, in no wave of ours.
NO_WAVE = -1


@dataclass(frozen=True)
class Document:
    """`address` names it within its wave; `kind` is the object's, `Step`, or `File` (with NO_WAVE)."""

    wave: int
    address: str
    kind: str
    component: str
    body: Mapping[str, Any]

    @property
    def key(self) -> tuple[int, str]:
        """What stays the same where only the content changes."""
        return (self.wave, self.address)


@dataclass(frozen=True)
class DocumentChange:
    """One document before and after; None where it is not there then."""

    before: Document | None
    after: Document | None
    fields: tuple[str, ...]

    @property
    def either(self) -> Document:
        """The document as it becomes, or was."""
        found = self.after or self.before
        assert found is not None, "one of the two is there"  # noqa: S101 - for the type checker
        return found

    @property
    def action(self) -> str:
        """`added`, `removed` or `changed`."""
        return "changed" if self.before and self.after else ("added" if self.after else "removed")

    @property
    def replaces(self) -> bool:
        """Whether it becomes another object, or one that cannot be changed in place."""
        if self.before is None or self.after is None or self.after.kind == "Step":
            return False
        old, new = self.before.body, self.after.body
        return _identity(old) != _identity(new) or (
            self.after.kind in _RUNS_PODS
            and any(old.get("spec", {}).get(name) != new.get("spec", {}).get(name) for name in _FIXED)
        )

    @property
    def restarts(self) -> tuple[str, ...]:
        """Fields of the pod template that change: its pods are made anew. Empty where none is."""
        if self.before is None or self.after is None or self.after.kind not in _RUNS_PODS:
            return ()
        return tuple(changed_fields(_template(self.before), _template(self.after)))


def compare_documents(
    before: Mapping[tuple[int, str], Document], after: Mapping[tuple[int, str], Document]
) -> tuple[DocumentChange, ...]:
    """Every document that differs, by wave and address."""
    changes = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old is not None and new is not None:
            fields = tuple(changed_fields(old.body, new.body))
            if not fields:
                continue
        else:
            fields = ()
        changes.append(DocumentChange(old, new, fields))
    return tuple(changes)


def changed_fields(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """`spec.containers[main].image: a:1 → a:2`, one for each field that differs."""
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            here = f"{path}.{key}" if path else str(key)
            yield from changed_fields(before.get(key), after.get(key), here)
        return
    old, new = _by_name(before), _by_name(after)
    if old is not None and new is not None:
        for name in [*new, *(name for name in old if name not in new)]:
            yield from changed_fields(old.get(name), new.get(name), f"{path}[{name}]")
        if [name for name in old if name in new] != [name for name in new if name in old]:
            yield f"{path} (order)"
        return
    # A whole block that comes or goes is told by its leaves where their values are told.
    if _told(path) and (isinstance(before, Mapping) or isinstance(after, Mapping)):
        yield from changed_fields(before or {}, after or {}, path)
        return
    yield f"{path}: {_shown(before)} → {_shown(after)}" if _told(path) else path


def _told(path: str) -> bool:
    return any(word in path.replace("[", ".").split(".") for word in _TOLD)


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}…"


def _by_name(value: Any) -> dict[str, Any] | None:
    """A list whose entries are told apart by `name`; an absent one has none."""
    if value is None:
        return {}
    if not isinstance(value, list) or not all(isinstance(item, Mapping) and "name" in item for item in value):
        return None
    found = {str(item["name"]): item for item in value}
    return found if len(found) == len(value) else None


def _template(document: Document) -> Any:
    return document.body.get("spec", {}).get("template", {})


def _identity(body: Mapping[str, Any]) -> tuple[Any, ...]:
    metadata = body.get("metadata", {})
    return (body.get("apiVersion"), body.get("kind"), metadata.get("namespace"), metadata.get("name"))
