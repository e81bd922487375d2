"""What the capacity app is told: the mounted document, and a few variables of its container."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from helpers.domain import names
from helpers.domain.capacity import CapacitySettings
from helpers.domain.errors import InputError
from helpers.services.capacity_watch import FULL_CHECK_SECONDS

DEFAULT_NAMESPACE = "default"
DEFAULT_METRICS_ADDRESS = f"127.0.0.1:{names.CAPACITY_METRICS_PORT}"
_POD_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no", "")


class WatchSettings(BaseModel):
    """How `watch` runs. What it keeps stands in CapacitySettings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: str = DEFAULT_NAMESPACE
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
            f"name the file in ${names.ENV_CAPACITY_CONFIG}."
        ) from error
    try:
        return CapacitySettings.model_validate_json(text)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        raise InputError(f"capacity settings {path}: {found}. Render the estate again.") from error


def capacity_path(environment: Mapping[str, str]) -> Path:
    """Where the document is mounted."""
    return Path(environment.get(names.ENV_CAPACITY_CONFIG) or names.CAPACITY_CONFIG_PATH)


def watch_settings(environment: Mapping[str, str]) -> WatchSettings:
    """The settings of a container from its variables.

    Raises:
        InputError: a variable holds something that it cannot.
    """
    return WatchSettings(
        namespace=environment.get(names.ENV_NAMESPACE) or _own_namespace(),
        metrics_address=environment.get(names.ENV_METRICS_ADDRESS, DEFAULT_METRICS_ADDRESS),
        dry_run=dry_run(environment),
    )


def dry_run(environment: Mapping[str, str]) -> bool:
    """The one reading of the variable: an odd spelling is an error, never a quiet no.

    Raises:
        InputError: it is neither true nor false.
    """
    text = environment.get(names.ENV_DRY_RUN, "")
    if text.lower() not in (*_TRUE, *_FALSE):
        raise InputError(f"{names.ENV_DRY_RUN}={text!r} is neither true nor false; write one of them")
    return text.lower() in _TRUE


def version() -> str:
    """The installed version; `unknown` in a checkout that was never installed."""
    try:
        return metadata.version("gpumem")
    except metadata.PackageNotFoundError:
        return "unknown"


def _own_namespace() -> str:
    try:
        return _POD_NAMESPACE_FILE.read_text().strip() or DEFAULT_NAMESPACE
    except OSError:
        return DEFAULT_NAMESPACE  # not in a pod
