"""`ports.dra_agent.Checkpoint` in a JSON file with version and checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from helpers.adapters.durable_file import write_durably
from helpers.domain.dra.prepared import PreparedClaim
from helpers.ports.dra_agent import CheckpointCorrupted

VERSION = 1


class CheckpointFile:
    """One file; whoever writes it holds the plugin folder's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> tuple[PreparedClaim, ...] | None:
        """What was saved; None where nothing ever was.

        Raises:
            CheckpointCorrupted: It cannot be read back exactly; it was moved aside.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return _read(content)
        except (ValueError, KeyError, TypeError) as error:
            now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
            aside = self._path.with_name(f"{self._path.name}.corrupt-{now}")
            self._path.replace(aside)
            raise CheckpointCorrupted(f"{self._path}: {error}; it was moved to {aside.name}") from error

    def save(self, claims: Sequence[PreparedClaim]) -> None:
        """Replaces what was saved; on disk when it returns. Raises OSError where it cannot be written."""
        body: dict[str, Any] = {"version": VERSION, "claims": [claim.model_dump(mode="json") for claim in claims]}
        write_durably(self._path, json.dumps(body | {"checksum": _checksum(body)}, indent=1).encode())


def _read(content: bytes) -> tuple[PreparedClaim, ...]:
    document = json.loads(content)
    if not isinstance(document, dict):
        raise TypeError("it is no JSON object")
    said = document.pop("checksum", None)
    if said != _checksum(document):
        raise ValueError("its checksum is not that of its content")
    if document["version"] != VERSION:
        raise ValueError(f"it is of version {document['version']}, this agent writes version {VERSION}")
    return tuple(PreparedClaim.model_validate(one) for one in document["claims"])


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
