"""Change numbers in an estate file and nothing else: every comment and every other byte stays.

The number is found by the place that `yaml_source` gives its key, replaced in the text, and the
whole file is read again: exactly the wanted values may differ, and the estate must be valid.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.domain.budget_change import BudgetChange, Change
from helpers.domain.errors import CheckFailed, InputError
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.yaml_source import Document, EstatePath, dotted, read_document

# The breaks by which PyYAML counts lines; str.splitlines knows more of them.
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
# `key: 3000` in block or flow style, the key quoted or not; a comment or another key may follow.
_NUMBER = re.compile(r"""(?P<key>(?P<quote>["']?)(?P<name>[a-z_]+)(?P=quote)\s*:\s+)(?P<value>[0-9]+)(?=[\s,}#]|$)""")


def edit_text(text: str, file: str, changes: Sequence[Change]) -> str:
    """`text` with `changes` made; `file` is only named in errors.

    Raises:
        InputError: a change names what is not in the file, or the number there is not written as a
            plain one (an alias, an anchor), so that it cannot be changed alone.
        EstateInvalid: the result is no valid estate.
    """
    document = read_document(text)
    if document.problems:
        parse_estate(text, file)
    wanted = {_path_of(document, file, change): change for change in changes}
    edits = sorted((_span(text, document, file, path, change), change.to_mib) for path, change in wanted.items())
    edited = text
    for (start, end), to_mib in reversed(edits):
        edited = f"{edited[:start]}{to_mib}{edited[end:]}"
    _only_these_differ(document, read_document(edited), file, {path: c.to_mib for path, c in wanted.items()})
    parse_estate(edited, file)
    return edited


def edit_file(path: Path, changes: Sequence[Change]) -> bool:
    """`edit_text` on a file, whole or not at all; whether anything changed. A link stays a link.

    Raises:
        InputError: as `edit_text`, or the file cannot be read or written.
        CheckFailed: somebody else changed the file meanwhile.
    """
    target = path.resolve()
    try:
        before = target.read_bytes()
        text = before.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}. Name the estate with -f FILE.") from error
    after = edit_text(text, str(path), changes).encode("utf-8")
    if after == before:
        return False
    try:
        _replace(target, before, after)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error}. The file is as it was.") from error
    return True


def _replace(target: Path, before: bytes, after: bytes) -> None:
    """Write beside it, then rename: a reader sees the old file or the new one."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(after)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(target.stat().st_mode & 0o7777)
        if target.read_bytes() != before:
            raise CheckFailed(f"{target}: it was changed by somebody else meanwhile. Run the command again.")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _path_of(document: Document, file: str, change: Change) -> EstatePath:
    value = document.value if isinstance(document.value, Mapping) else {}
    if isinstance(change, BudgetChange):
        index = _index(value.get("tenants"), "name", change.tenant)
        if index is None:
            raise InputError(f"{file}: tenants has no {change.tenant}. Name a tenant of this file.")
        return ("tenants", index, "budget_mib")
    node_index = _index(value.get("nodes"), "name", change.node)
    gpus = value["nodes"][node_index].get("gpus") if node_index is not None else None
    gpu_index = _index(gpus, "model", change.model)
    if node_index is None or gpu_index is None:
        raise InputError(f"{file}: nodes has no {change.node} with {change.model}. Name a node and model of this file.")
    return ("nodes", node_index, "gpus", gpu_index, "reserve_mib")


def _index(items: Any, key: str, wanted: str) -> int | None:
    if not isinstance(items, list):
        return None
    return next((i for i, item in enumerate(items) if isinstance(item, Mapping) and item.get(key) == wanted), None)


def _span(text: str, document: Document, file: str, path: EstatePath, change: Change) -> tuple[int, int]:
    place = document.places.get(path)
    if place is None:
        raise InputError(f"{file}: {dotted(path)} is not in the file. Add it by hand first.")
    match = _NUMBER.match(text, _offset(text, *place))
    if match is None or match["name"] != path[-1]:
        raise InputError(
            f"{file}:{place[0]}:{place[1]}: {dotted(path)} is not written as a plain number after its key, "
            f"so it cannot be changed alone. Set it to {change.to_mib} by hand."
        )
    return match.span("value")


def _offset(text: str, line: int, column: int) -> int:
    """Where `line` and `column` (from 1) are in `text`. A byte order mark counts for no column."""
    starts = [0, *(match.end() for match in _LINE_BREAK.finditer(text))]
    mark = 1 if line == 1 and text.startswith("\ufeff") else 0
    return starts[line - 1] + column - 1 + mark


def _only_these_differ(before: Document, after: Document, file: str, wanted: Mapping[EstatePath, int]) -> None:
    """An alias or a merge key would carry the number to places that nobody named."""
    changed = {path for path in _differences(before.value, after.value, ()) if path not in wanted}
    missed = [path for path, to_mib in wanted.items() if _at(after.value, path) != to_mib]
    if changed or missed:
        places = ", ".join(dotted(path) for path in sorted([*changed, *missed], key=str))
        raise InputError(f"{file}: the change would not be the one wanted at {places}. Change the file by hand.")


def _differences(before: Any, after: Any, path: EstatePath) -> list[EstatePath]:
    if isinstance(before, Mapping) and isinstance(after, Mapping) and before.keys() == after.keys():
        return [found for key in before for found in _differences(before[key], after[key], (*path, key))]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [found for index, (old, new) in pairs for found in _differences(old, new, (*path, index))]
    return [] if before == after else [path]


def _at(value: Any, path: EstatePath) -> Any:
    for part in path:
        value = value[part]
    return value
