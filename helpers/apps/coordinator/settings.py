"""What a coordinator process is told: the mounted document, and how it runs."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from helpers.adapters.process import read_document
from helpers.domain import names
from helpers.domain.lanes.settings import CoordinatorSettings

DEFAULT_ADDRESS = f"127.0.0.1:{names.COORDINATOR_PORT}"
DEFAULT_LEASE_ADDRESS = f"127.0.0.1:{names.LEASES_PORT}"


class RunSettings(BaseModel):
    """How one process runs. What it decides by stands in CoordinatorSettings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    identity: str = Field(default_factory=lambda: f"{socket.gethostname()}_{os.getpid()}")
    """Who this process is among candidates, and in the marks of its pauses."""

    namespace: str = ""
    """In a cluster: of the Lease."""

    address: str = DEFAULT_ADDRESS
    """HOST:PORT of /v1/status, /v1/lanes, /metrics and /healthz; loopback unless told otherwise."""

    lease_address: str = DEFAULT_LEASE_ADDRESS
    """HOST:PORT of /v1/leases, where the estate has leases."""

    lease_tokens: Path | None = None
    """Who may ask for leases, where no API server says so."""

    lease_tls_folder: Path | None = None
    """Where tls.crt and tls.key of /v1/leases lie; None: plain HTTP."""
    clients_folder: Path | None = None
    """Holds v4, v5 and v6, each with BullMQ in its node_modules; None: the program's own."""

    redis_password: str = Field(default="", repr=False)
    immich_api_key: str = Field(default="", repr=False)


def read_coordinator_settings(path: Path) -> CoordinatorSettings:
    """The document that a Deployment mounts.

    Raises:
        InputError: the file cannot be read, or holds something else; names file, key and rule.
    """
    return read_document(CoordinatorSettings, path, "coordinator settings", names.COORDINATOR_CONFIG_MAP)
