"""The webhook's configuration and Secret on a fake API server, and keepers that may crash at any write."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from helpers.adapters.certificates import X509Certificates
from helpers.domain import names
from helpers.domain.admission.certificate_plan import ServingCertificate
from helpers.domain.admission.decision import PodSecurityLevel
from helpers.domain.admission.webhook import LEVEL_BY_PATH, webhook_name
from helpers.ports.cluster import Manifest, ObjectRef
from helpers.services.certificates import (
    LOOK_AGAIN_SECONDS,
    CertificateKeeper,
    KeeperPorts,
    KeeperSettings,
    read_secret,
    read_trusted,
)
from tests.fakes.cluster import FakeCluster
from tests.fakes.outside import FakeClock, FakeEvents, FakeLeadership, FakeLog

NAMESPACE = "gpu-system"
DNS_NAME = "gpu-webhook.gpu-system.svc"
DAY = 24 * 3600.0
SETTLE_SECONDS = 10.0


class FakeInjectorMetrics:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.acts: list[str] = []
        self.ends_at: list[datetime] = []
        self.leading: bool | None = None

    def reviewed(self, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.outcomes.append(outcome)

    def served(self, ends_at: datetime) -> None:
        self.ends_at.append(ends_at)

    def certificate_act(self, act: str) -> None:
        self.acts.append(act)

    def leads(self, leads: bool) -> None:
        self.leading = leads


class Crash(BaseException):
    """The process is killed. No handler of ours may catch it."""


class CrashingCluster(FakeCluster):
    """Dies at the write that `crash_at` counts to (from 1): before it, or after it was done and before the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.crash_at = 0
        self.crash_after_writing = False
        self.watchers: list[Callable[[], None]] = []

    def apply(self, manifest: Manifest, **named: Any) -> dict[str, Any]:
        self.writes += 1
        if self.writes == self.crash_at and not self.crash_after_writing:
            raise Crash
        answer = super().apply(manifest, **named)
        for look in self.watchers:
            look()
        if self.writes == self.crash_at:
            raise Crash
        return answer


def configuration(prefix: str = "gpumem.io") -> dict[str, Any]:
    """As Terraform applies it: without caBundle."""
    levels: list[tuple[str, PodSecurityLevel]] = list(LEVEL_BY_PATH.items())
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": names.WEBHOOK_CONFIGURATION},
        "webhooks": [
            {
                "name": webhook_name(level, prefix),
                "clientConfig": {"service": {"name": "gpu-webhook", "namespace": NAMESPACE, "path": path}},
                "sideEffects": "None",
            }
            for path, level in levels
        ],
    }


class World:
    """One cluster with its injectors."""

    def __init__(self, *, with_configuration: bool = True) -> None:
        self.cluster = CrashingCluster()
        self.clock = FakeClock()
        self.certificates = X509Certificates()
        self.events, self.metrics, self.log = FakeEvents(), FakeInjectorMetrics(), FakeLog()
        self.leadership = FakeLeadership()
        self.settings = KeeperSettings(
            namespace=NAMESPACE,
            secret=names.WEBHOOK_SECRET,
            configuration=names.WEBHOOK_CONFIGURATION,
            dns_names=frozenset({DNS_NAME}),
            lifetime_seconds=90 * DAY,
            settle_seconds=SETTLE_SECONDS,
        )
        if with_configuration:
            self.cluster.add(configuration(), manager=names.FIELD_MANAGER_TERRAFORM)

    def keeper(self, **changes: Any) -> CertificateKeeper:
        """A process that begins with an empty memory."""
        ports = KeeperPorts(self.cluster, self.certificates, self.events, self.metrics, self.clock, self.log)
        settings = KeeperSettings(**{**_fields(self.settings), **changes})
        return CertificateKeeper(ports, settings, self.leadership)

    def until_kept(self, keeper: CertificateKeeper, most_steps: int = 30) -> int:
        """Steps until there is nothing to do; how many it took."""
        for step in range(most_steps):
            wait_seconds = keeper.step()
            if wait_seconds >= LOOK_AGAIN_SECONDS:
                return step
            if wait_seconds:
                self.clock.advance(wait_seconds)
        raise AssertionError(f"still at work after {most_steps} steps: {self.log.lines}")

    @property
    def secret_ref(self) -> ObjectRef:
        """The Secret."""
        return self.settings.secret_ref

    def secret(self) -> ServingCertificate:
        """What the Secret holds, which must be usable."""
        found = read_secret(self.cluster.now(self.secret_ref), self.certificates)
        assert isinstance(found, ServingCertificate), found
        return found

    def has_secret(self) -> bool:
        """Whether there is one."""
        return ("Secret", NAMESPACE, names.WEBHOOK_SECRET) in self.cluster._objects

    def trusted(self) -> list[set[str]]:
        """The fingerprints in each webhook's caBundle."""
        found = read_trusted(self.cluster.now(self.settings.configuration_ref), self.certificates)
        return [{one.fingerprint for one in each.authorities} for each in found.values()]

    def empty_bundles(self) -> None:
        """Somebody applies the configuration with an empty caBundle, and takes the field over."""
        self.set_bundles("")

    def set_bundles(self, pem: str) -> None:
        """Somebody writes something else there."""
        now = self.cluster.now(self.settings.configuration_ref)
        bundle = base64.b64encode(pem.encode()).decode()
        webhooks = [{**one, "clientConfig": {**one["clientConfig"], "caBundle": bundle}} for one in now["webhooks"]]
        self.cluster.write(self.settings.configuration_ref, {"webhooks": webhooks}, manager="somebody")


def _fields(settings: KeeperSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def writes_of(world: World) -> Iterator[str]:
    """The kinds that were written to, in order."""
    for call in world.cluster.calls:
        if call.startswith("patch "):
            yield call.split()[1]
