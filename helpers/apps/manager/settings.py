"""What a manager process is told: the mounted document, and how it runs."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from helpers.adapters.process import read_document
from helpers.domain import names
from helpers.domain.jobs.settings import ManagerSettings

DEFAULT_ADDRESS = f"127.0.0.1:{names.MANAGER_PORT}"


class RunSettings(BaseModel):
    """How one process runs. What it decides by stands in ManagerSettings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    identity: str = Field(default_factory=lambda: f"{socket.gethostname()}_{os.getpid()}")
    """Who this process is among candidates."""

    namespace: str = ""
    """In a cluster: of the Lease."""

    address: str = DEFAULT_ADDRESS
    """HOST:PORT of the API and /healthz; loopback unless told otherwise."""

    metrics_address: str = ""
    """HOST:PORT of /metrics; empty: none."""

    tokens: Path | None = None
    """Who may do what, where no API server says so."""

    tls_folder: Path | None = None
    """Where tls.crt and tls.key lie; None: plain HTTP."""

    dry_run: bool = False
    """The cluster is asked what it would do, and nothing is done."""

    database_url: str = Field(default="sqlite:///gpumem-jobs.db", repr=False)
    """Holds a password, so it is never shown."""

    alert_secrets: dict[str, str] = Field(default={}, repr=False)
    """`{variable: what it holds}` of those that manager.budget_alerts names."""


def read_manager_settings(path: Path) -> ManagerSettings:
    """The document that a Deployment mounts.

    Raises:
        InputError: the file cannot be read, or holds something else; names file, key and rule.
    """
    return read_document(ManagerSettings, path, "manager settings", names.MANAGER_CONFIG_MAP)
