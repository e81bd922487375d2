"""What the capacity app is told: the mounted document, and how its watch runs."""

from __future__ import annotations

import os
import socket
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from helpers.domain import names
from helpers.domain.capacity import CapacitySettings
from helpers.domain.errors import InputError
from helpers.services.capacity_watch import FULL_CHECK_SECONDS

DEFAULT_METRICS_ADDRESS = f"127.0.0.1:{names.CAPACITY_METRICS_PORT}"


class WatchSettings(BaseModel):
    """How `watch` runs. What it keeps stands in CapacitySettings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: str
    """Where the Lease lives: the app's own namespace."""

    identity: str = Field(default_factory=lambda: f"{socket.gethostname()}_{os.getpid()}")
    """Who this process is among candidates. In a pod: pod and process id, so that a container that
    restarts takes its own lease up again at once instead of waiting for it to run out."""

    metrics_address: str = DEFAULT_METRICS_ADDRESS
    """HOST:PORT of /metrics; loopback unless told otherwise, `:9410` in a pod. Empty: no metrics."""

    full_check_seconds: float = Field(default=FULL_CHECK_SECONDS, gt=0)
    """Backstop of the watch; a check is one list of nodes, so minutes are cheap and hours too long."""

    dry_run: bool = False
    """Nothing is deleted by advertising a number, so the default is to act."""


def read_capacity_settings(path: Path) -> CapacitySettings:
    """The document that every step, job and pod of the capacity component reads.

    Raises:
        InputError: the file cannot be read, or holds something else; names file, key and rule.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise InputError(
            f"capacity settings {path}: {error.strerror}. Mount the ConfigMap {names.CAPACITY_CONFIG_MAP} there, or "
            "name the file with --settings."
        ) from error
    try:
        return CapacitySettings.model_validate_json(text)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        raise InputError(f"capacity settings {path}: {found}. Render the estate again.") from error


def version() -> str:
    """The installed version; `unknown` in a checkout that was never installed."""
    try:
        return metadata.version("gpumem")
    except metadata.PackageNotFoundError:
        return "unknown"
