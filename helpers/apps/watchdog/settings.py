"""What a watchdog process is told: the mounted document, and how it runs."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from helpers.adapters.process import read_document
from helpers.adapters.trace_file import DEFAULT_LIMIT_MIB
from helpers.domain import names
from helpers.domain.watchdog.rights import EXPORTER_SERVICE
from helpers.domain.watchdog.settings import WatchdogSettings

DEFAULT_METRICS_ADDRESS = f"127.0.0.1:{names.WATCHDOG_METRICS_PORT}"


class RunSettings(BaseModel):
    """How one process runs. What it decides by stands in WatchdogSettings, dry_run included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    resource: str
    """The extended resource in which budgets are declared; the estate's `resource`."""

    claims_driver: str = ""
    """Whose cards budgets are claims on; empty where every budget is declared in the resource."""

    label_prefix: str = names.DEFAULT_LABEL_PREFIX
    """Of `PREFIX/protected` on pods and `PREFIX/acts` on the Lease."""

    namespace: str
    """The watchdog's own: its Lease, and the exporters' EndpointSlices."""

    identity: str = Field(default_factory=lambda: f"{socket.gethostname()}_{os.getpid()}")
    """Who this process is among candidates."""

    exporters: tuple[str, ...] = ()
    """`NODE=http://ADDRESS:PORT`, in place of the search by EndpointSlice."""

    exporter_service: str = EXPORTER_SERVICE
    """The Service whose EndpointSlices list the exporters; its port is called `metrics`."""

    scrape_deadline_seconds: float = Field(default=2.0, gt=0, le=10)
    """A healthy exporter answers from memory in milliseconds; a stalled one must not hold up a pass."""

    metrics_address: str = DEFAULT_METRICS_ADDRESS
    """HOST:PORT of /metrics and /healthz; loopback unless told otherwise. Empty: none."""

    record: Path | None = None
    """What is seen goes into this file, for `gpumem watchdog replay`, `recommend` and `arm`."""

    record_limit_mib: int = Field(default=DEFAULT_LIMIT_MIB, ge=1, le=10_240)
    """Of one file; there are at most two."""

    record_interval_seconds: float = Field(default=15.0, ge=1, le=3600)
    """Between two recorded looks: growth shows in minutes, and a file should hold days."""


def read_watchdog_settings(path: Path) -> WatchdogSettings:
    """The document that the watchdog, `replay` and `arm` read.

    Raises:
        InputError: the file cannot be read, or holds something else; names file, key and rule.
    """
    return read_document(WatchdogSettings, path, "watchdog settings", names.WATCHDOG_CONFIG_MAP)
