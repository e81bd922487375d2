"""What both clients of leases say and hear, without sending anything: requests, answers, and what follows."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from helpers.domain import names
from helpers.sdk.pod_token import TOKEN_FILE

DEFAULT_URL = f"http://gpumem-coordinator.gpu-system.svc:{names.LEASES_PORT}"
ASK_TIMEOUT_SECONDS = 5.0
# How often who waits looks again, and how long nobody may answer before that is said.
LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 20.0
_RENEWALS_A_LIFE_COUNT = 3
Request = tuple[str, str, dict[str, Any] | None]


class LeaseError(Exception):
    """Root of what is raised here."""


class LeaseRefused(LeaseError):
    """The lease is not granted."""


class LeaseLost(LeaseError):
    """The lease ended while its block ran."""


class Unreachable(LeaseError):
    """No coordinator answered for as long as was waited."""


@dataclass
class Held:
    """A lease that is held. Set `used_mib` where nobody measures this process's use (outside Kubernetes)."""

    id: str
    tenant: str
    mib: int
    lane: str
    node: str
    gpu_index: int
    ttl_seconds: float
    closes_at: str | None = None
    """When its lane's window closes, and the lease ends with it; None: never."""
    lost: str = ""
    """Why it is lost; empty while it is held."""
    used_mib: int | None = None
    renewed_seconds: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        """Raises LeaseLost where it is not held any more."""
        if self.lost:
            raise LeaseLost(f"the lease {self.id} of {self.mib} MiB for {self.tenant} is lost: {self.lost}")


class Wish:
    """One request for a lease, from the first question to the last answer."""

    def __init__(
        self, tenant: str, mib: int, lane: str, max_wait_seconds: float, url: str | None, token: str | None
    ) -> None:
        self.problem = ""
        self._id = uuid.uuid4().hex
        self._token = token
        self._base = (url or os.environ.get(names.ENV_LEASES_URL) or DEFAULT_URL).rstrip("/")
        self._body = {"tenant": tenant, "mib": mib, "lane": lane, "max_wait_seconds": max_wait_seconds}
        self._answered_seconds = time.monotonic()
        self._entered = False

    def headers(self) -> Mapping[str, str]:
        """With the token as it is now: a pod's is replaced every hour."""
        token = self._token
        if token is None:
            try:
                token = TOKEN_FILE.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise LeaseError(f"no token was given, and {TOKEN_FILE} cannot be read: {error.strerror}") from error
        return {"Authorization": f"Bearer {token}"}

    def ask(self) -> Request:
        """The request. Sent twice, it is one lease: both have the same id."""
        return "POST", f"{self._base}/v1/leases", {**self._body, "request_id": self._id}

    def next(self) -> Request:
        """What to send while waiting: a sign of life once the request is known to be entered."""
        return ("PUT", self._url, None) if self._entered else self.ask()

    def renewal(self, held: Held) -> Request:
        """The sign of life of who holds it."""
        return "PUT", self._url, None if held.used_mib is None else {"used_mib": held.used_mib}

    def release(self) -> tuple[str, str]:
        """Gives it back, or does not wait any more."""
        return "DELETE", self._url

    def heard(self, answer: httpx.Response | None) -> Held | None:
        """The lease, where the answer grants it; None: ask again after `pause_seconds`.

        Raises:
            LeaseRefused: it will not be granted.
            Unreachable: nobody has answered for too long.
        """
        if answer is None or answer.status_code in (502, 503, 504):
            self.problem = self.problem if answer is None else _said(answer)
            if time.monotonic() - self._answered_seconds > PATIENCE_SECONDS:
                raise Unreachable(f"{self._base} has not answered for {PATIENCE_SECONDS:g} s: {self.problem}")
            return None
        self._answered_seconds = time.monotonic()
        if answer.status_code == httpx.codes.ACCEPTED:
            self._entered = True
            return None
        if answer.status_code == httpx.codes.NOT_FOUND and self._entered:
            self._entered = False  # the store lost it; it is entered anew
            return None
        if not answer.is_success:
            raise LeaseRefused(f"{self._body['mib']} MiB for {self._body['tenant']}: {_said(answer)}")
        found = answer.json()
        known = {name: found[name] for name in ("id", "tenant", "mib", "lane", "node", "gpu_index", "ttl_seconds")}
        return Held(**known, closes_at=found["closes_at"])

    def renewed(self, held: Held, answer: httpx.Response | None) -> None:
        """Notes what the answer to a renewal means for the lease."""
        if answer is not None and answer.status_code == httpx.codes.OK:
            held.renewed_seconds = time.monotonic()
        elif answer is not None and answer.status_code in (
            httpx.codes.GONE, httpx.codes.NOT_FOUND, httpx.codes.FORBIDDEN, httpx.codes.ACCEPTED,
        ):  # fmt: skip
            held.lost = _said(answer)
        elif time.monotonic() - held.renewed_seconds > held.ttl_seconds:
            why = self.problem if answer is None else _said(answer)
            held.lost = f"it could not be renewed for {held.ttl_seconds:g} s: {why}"

    def renew_seconds(self, held: Held) -> float:
        """How long until the next sign of life."""
        return held.ttl_seconds / _RENEWALS_A_LIFE_COUNT

    def pause_seconds(self, answer: httpx.Response | None) -> float:
        """How long until the next question."""
        try:
            after_seconds = float(answer.headers.get("Retry-After", 0)) if answer is not None else 0.0
        except ValueError:
            after_seconds = 0.0
        return max(LOOK_SECONDS, min(after_seconds, PATIENCE_SECONDS))

    @property
    def _url(self) -> str:
        return f"{self._base}/v1/leases/{self._id}"


def _said(answer: httpx.Response) -> str:
    try:
        found = answer.json()
    except ValueError:
        return f"status {answer.status_code}"
    return str(found.get("error") or found.get("reason") or f"status {answer.status_code}")
