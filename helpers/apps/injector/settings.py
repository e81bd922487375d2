"""What an injector process is told besides its rules."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from helpers.adapters.process import read_document
from helpers.domain import names
from helpers.domain.admission.settings import AdmissionSettings

DEFAULT_LISTEN_ADDRESS = f"127.0.0.1:{names.INJECTOR_PORT}"
DEFAULT_METRICS_ADDRESS = f"127.0.0.1:{names.INJECTOR_METRICS_PORT}"
DEFAULT_LIFETIME_SECONDS = 90 * 24 * 3600.0
DEFAULT_SETTLE_SECONDS = 10.0


class RunSettings(BaseModel):
    """How one process runs. What it decides by is the admission document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: str
    """The injector's own: its Secret and its Lease."""

    identity: str = Field(default_factory=lambda: f"{socket.gethostname()}_{os.getpid()}")
    """Who this process is among candidates."""

    secret: str = names.WEBHOOK_SECRET
    """The Secret with tls.crt, tls.key and ca.crt."""

    configuration: str = names.WEBHOOK_CONFIGURATION
    """The MutatingWebhookConfiguration whose caBundle is kept."""

    dns_names: tuple[str, ...] = Field(min_length=1)
    """Under which API servers ask: the Service's DNS name; outside a cluster, a host's name or address."""

    certificates: Literal["self", "cert-manager"] = "self"
    """Who makes them. With cert-manager they are only read."""

    lifetime_seconds: float = Field(default=DEFAULT_LIFETIME_SECONDS, ge=5)
    """Of a self-made certificate; the next one is made after two thirds of it."""

    settle_seconds: float = Field(default=DEFAULT_SETTLE_SECONDS, ge=0)
    """Between a new authority in the caBundle and the first use of its certificate: API servers read the
    configuration from their caches, which are behind by seconds at most."""

    listen_address: str = DEFAULT_LISTEN_ADDRESS
    """HOST:PORT of the webhook; loopback unless told otherwise."""

    metrics_address: str = DEFAULT_METRICS_ADDRESS
    """HOST:PORT of /metrics, /healthz and /readyz. Empty: none."""

    drain_seconds: float = Field(default=0.0, ge=0, le=60)
    """At the end: how long reviews are still answered, until no API server sends any here."""

    dry_run: bool = False
    """true: certificates are not written; nothing that is served changes hands."""

    @model_validator(mode="after")
    def _rotates_in_time(self) -> RunSettings:
        # Between two thirds of the lifetime and its end there must be room to publish and to change over.
        if self.settle_seconds > self.lifetime_seconds / 6:
            raise ValueError(
                f"settle_seconds is {self.settle_seconds:g}: at most a sixth of lifetime_seconds "
                f"({self.lifetime_seconds / 6:g}), or certificates expire before they are replaced"
            )
        return self


def read_admission_settings(path: Path) -> AdmissionSettings:
    """The document that the injector decides by.

    Raises:
        InputError: the file cannot be read, or holds something else; names file, key and rule.
    """
    return read_document(AdmissionSettings, path, "admission settings", names.INJECTOR_CONFIG_MAP)
