"""What the capacity app is told: the mounted document, and how its watch runs."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from helpers.adapters.process import read_document
from helpers.domain import names
from helpers.domain.capacity import CapacitySettings
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
    return read_document(CapacitySettings, path, "capacity settings", names.CAPACITY_CONFIG_MAP)
