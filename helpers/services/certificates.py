"""Carries the certificate plan out: looks, lets `domain.admission.certificate_plan` decide, does one act.

Only the leader acts, and each write says which version of the object it was decided on, so that a
process that was overtaken gets a Conflict and looks again. What is done to the certificate, and what
fails, is logged, counted, and (done) written as an Event. The one reader of dry_run is here.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from helpers.domain import names
from helpers.domain.admission.certificate_plan import (
    Action,
    CertificateFacts,
    Issue,
    Keep,
    Pending,
    Serve,
    ServingCertificate,
    Settle,
    Trust,
    Trusted,
    Unusable,
    plan_certificates,
    why_another,
)
from helpers.domain.errors import ClusterError, Conflict, InputError
from helpers.ports.certificates import Certificates
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.ports.events import Events
from helpers.ports.injector_metrics import InjectorMetrics
from helpers.ports.leadership import Leadership
from helpers.ports.log import Log

CONFIGURATION_VERSION = "admissionregistration.k8s.io/v1"
CONFIGURATION_KIND = "MutatingWebhookConfiguration"
ACTS = ("issued", "trusted", "rotated", "failed")

# Watches wake the keeper at once; this is the backstop, two reads each time.
LOOK_AGAIN_SECONDS = 60.0
NOT_LEADING_SECONDS = 2.0
RETRY_SECONDS = 5.0
CONFLICT_SECONDS = 0.2
AT_ONCE_SECONDS = 0.0


@dataclass(frozen=True, slots=True)
class KeeperSettings:
    """What is kept: the Secret in `namespace`, and the caBundles of `configuration`.

    `settle_seconds`: how long after a new authority has been published its certificate is not yet used,
    for API servers that see the publication later than others.
    """

    namespace: str
    secret: str
    configuration: str
    dns_names: frozenset[str]
    lifetime_seconds: float
    settle_seconds: float
    dry_run: bool = False

    @property
    def secret_ref(self) -> ObjectRef:
        """The Secret."""
        return ObjectRef("v1", "Secret", self.secret, self.namespace)

    @property
    def configuration_ref(self) -> ObjectRef:
        """The MutatingWebhookConfiguration."""
        return ObjectRef(CONFIGURATION_VERSION, CONFIGURATION_KIND, self.configuration)


@dataclass(frozen=True, slots=True)
class KeeperPorts:
    """What the keeper needs from the outside."""

    cluster: Cluster
    certificates: Certificates
    events: Events
    metrics: InjectorMetrics
    clock: Clock
    log: Log


@dataclass(frozen=True, slots=True)
class _Seen:
    """The two objects as they were read."""

    secret: Manifest | None
    configuration: Manifest | None
    facts: CertificateFacts = field(repr=False)


class CertificateKeeper:
    """One process's part in keeping the certificate; `step` until stopped, or `run`."""

    def __init__(self, ports: KeeperPorts, settings: KeeperSettings, leadership: Leadership) -> None:
        self._ports = ports
        self._settings = settings
        self._leadership = leadership
        self._pending: ServingCertificate | None = None
        self._trusted_since_seconds: float | None = None
        self._woken = threading.Event()

    def wake(self) -> None:
        """Makes `run` look now: something changed, or it is to stop."""
        self._woken.set()

    def run(self, stop: Callable[[], bool]) -> None:
        """Keeps the certificate until `stop()`, which is asked after each `wake`.

        Raises:
            Forbidden: the Lease may not be read or written.
        """
        while not stop():
            # Cleared before looking: what happens meanwhile is looked at right afterwards.
            self._woken.clear()
            self._woken.wait(self.step())

    def step(self) -> float:
        """Looks, does at most one act; how many seconds until it is worth looking again.

        Raises:
            Forbidden: the Lease may not be read or written.
        """
        leads = self._leadership.leads()
        self._ports.metrics.leads(leads)
        if not leads:
            self._forget()
            return NOT_LEADING_SECONDS
        try:
            seen = self._look()
            return self._act(plan_certificates(seen.facts), seen)
        except Conflict as error:
            self._ports.log.info("certificate_overtaken", reason=str(error))
            return CONFLICT_SECONDS
        except ClusterError as error:
            # A missing right, too: the certificate that is there goes on serving, and rights can be mended.
            self._ports.metrics.certificate_act("failed")
            self._ports.log.error("certificate_act_failed", reason=str(error))
            return RETRY_SECONDS

    def _look(self) -> _Seen:
        settings = self._settings
        secret = self._ports.cluster.get(settings.secret_ref)
        configuration = self._ports.cluster.get(settings.configuration_ref)
        facts = CertificateFacts(
            now_at=self._ports.clock.now_at(),
            names=settings.dns_names,
            settle_seconds=settings.settle_seconds,
            secret=read_secret(secret, self._ports.certificates),
            trusted=read_trusted(configuration, self._ports.certificates),
            pending=None,
        )
        if not why_another(facts):
            self._forget()
        return _Seen(secret, configuration, self._with_pending(facts))

    def _with_pending(self, facts: CertificateFacts) -> CertificateFacts:
        """The facts with what is in memory, and how long every caBundle has had its authority."""
        if self._pending is None:
            return facts
        fingerprint, now_seconds = self._pending.authority.fingerprint, self._ports.clock.monotonic_seconds()
        if not all(fingerprint in (a.fingerprint for a in each.authorities) for each in facts.trusted.values()):
            self._trusted_since_seconds = None
        elif self._trusted_since_seconds is None:
            self._trusted_since_seconds = now_seconds
        since_seconds = self._trusted_since_seconds
        span_seconds = None if since_seconds is None else now_seconds - since_seconds
        return replace(facts, pending=Pending(self._pending, span_seconds))

    def _act(self, action: Action, seen: _Seen) -> float:
        if isinstance(action, Keep):
            left_seconds = (action.until_at - seen.facts.now_at).total_seconds()
            return min(max(left_seconds, CONFLICT_SECONDS), LOOK_AGAIN_SECONDS)
        if isinstance(action, Settle):
            return action.seconds
        if self._settings.dry_run:
            self._ports.log.info("certificate_would_change", act=type(action).__name__.lower(), reason=action.reason)
            return LOOK_AGAIN_SECONDS
        if isinstance(action, Issue):
            self._issue(action, seen)
        elif not self._leadership.leads():
            return NOT_LEADING_SECONDS  # looking took long enough to lose the Lease
        elif isinstance(action, Trust):
            self._trust(action, seen)
        else:
            self._serve(action, seen)
        return AT_ONCE_SECONDS

    def _issue(self, action: Issue, seen: _Seen) -> None:
        self._pending = self._ports.certificates.issue(
            self._settings.dns_names, now_at=seen.facts.now_at, lifetime_seconds=self._settings.lifetime_seconds
        )
        self._trusted_since_seconds = None
        self._done("issued", action.reason, self._pending)

    def _trust(self, action: Trust, seen: _Seen) -> None:
        if seen.configuration is None:
            raise AssertionError("the plan trusts nobody where there is no configuration")
        bundle = base64.b64encode(action.pem.encode()).decode()
        metadata = seen.configuration["metadata"]
        manifest = {
            "apiVersion": CONFIGURATION_VERSION,
            "kind": CONFIGURATION_KIND,
            "metadata": {"name": metadata["name"], "uid": metadata["uid"]}
            | {"resourceVersion": metadata["resourceVersion"]},
            # Only this field is ours; everything else in there is the estate's.
            "webhooks": [{"name": webhook, "clientConfig": {"caBundle": bundle}} for webhook in seen.facts.trusted],
        }
        written = self._ports.cluster.apply(manifest, field_manager=names.FIELD_MANAGER_INJECTOR, force=True)
        self._ports.metrics.certificate_act("trusted")
        fingerprints = [one.fingerprint[:16] for one in action.authorities]
        self._ports.log.info("authorities_trusted", reason=action.reason, authorities=fingerprints)
        text = f"caBundle of {metadata['name']}: {len(action.authorities)} authorities, because {action.reason}"
        self._ports.events.record(written, "GpumemAuthoritiesTrusted", text)

    def _serve(self, action: Serve, seen: _Seen) -> None:
        settings, certificate = self._settings, action.certificate
        metadata: dict[str, Any] = {
            "name": settings.secret,
            "namespace": settings.namespace,
            "labels": names.MANAGED_BY,
        }
        kind = "kubernetes.io/tls"
        if seen.secret is not None:
            metadata["resourceVersion"] = seen.secret["metadata"]["resourceVersion"]
            kind = str(seen.secret.get("type", kind))  # cannot be changed
        data = {
            "tls.crt": certificate.chain_pem,
            "tls.key": certificate.key_pem,
            "ca.crt": certificate.authority.pem,
        }
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": kind,
            "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
        }
        written = self._ports.cluster.apply(manifest, field_manager=names.FIELD_MANAGER_INJECTOR, force=True)
        self._forget()
        self._done("rotated", action.reason, certificate)
        text = f"a new certificate until {certificate.not_after_at:%Y-%m-%dT%H:%M:%SZ}, because {action.reason}"
        self._ports.events.record(written, "GpumemCertificateRotated", text)

    def _done(self, act: str, reason: str, certificate: ServingCertificate) -> None:
        self._ports.metrics.certificate_act(act)
        self._ports.log.info(
            f"certificate_{act}", reason=reason, certificate=certificate.fingerprint[:16],
            authority=certificate.authority.fingerprint[:16], names=sorted(certificate.names),
            due_at=certificate.due_at.isoformat(), not_after_at=certificate.not_after_at.isoformat(),
        )  # fmt: skip

    def _forget(self) -> None:
        self._pending, self._trusted_since_seconds = None, None


def read_secret(secret: Manifest | None, certificates: Certificates) -> ServingCertificate | Unusable | None:
    """What the Secret holds."""
    if secret is None:
        return None
    data = secret.get("data") or {}
    try:
        chain, key, authority = (
            base64.b64decode(data.get(name) or "", validate=True) for name in ("tls.crt", "tls.key", "ca.crt")
        )
        return certificates.read(chain_pem=chain, key_pem=key, authority_pem=authority)
    except (InputError, binascii.Error) as error:
        return Unusable(str(error))


def read_trusted(configuration: Manifest | None, certificates: Certificates) -> dict[str, Trusted]:
    """`{webhook: its caBundle}`; empty where there is no configuration."""
    found = {}
    for webhook in (configuration or {}).get("webhooks") or ():
        pem = _bundle_text(webhook.get("clientConfig") or {})
        found[str(webhook["name"])] = Trusted(pem, certificates.authorities(pem))
    return found


def _bundle_text(client_config: Mapping[str, Any]) -> str:
    try:
        return base64.b64decode(client_config.get("caBundle") or "").decode(errors="replace")
    except binascii.Error:
        return ""
