"""What a replica shows of the certificate that it serves: when it ends, and whether it is ready now."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import prometheus_client

from helpers.adapters.certificates import X509Certificates
from helpers.adapters.injector_metrics import PrometheusInjectorMetrics
from helpers.domain.admission.certificate_plan import ServingCertificate
from helpers.services.serving_certificate import ServedCertificate
from tests.fakes.injector_world import DAY, DNS_NAME, FakeInjectorMetrics
from tests.fakes.outside import FakeClock, FakeLog


class Server:
    """Remembers what it was given."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def install(self, certificate: ServingCertificate) -> None:
        self.shown.append(certificate.fingerprint)


class ShortLivedAuthority(X509Certificates):
    """As cert-manager's may be: near its end, while a certificate of it goes on."""

    ends_at: datetime

    def read(self, **pems: bytes) -> ServingCertificate:
        found = super().read(**pems)
        return replace(found, authority=replace(found.authority, not_after_at=self.ends_at))


class Replica:
    """One process; `certificates` reads, and `issued` puts a certificate of 90 days into the Secret."""

    def __init__(self, certificates: X509Certificates) -> None:
        self.certificates, self.clock, self.log = certificates, FakeClock(), FakeLog()
        self.metrics, self.server = FakeInjectorMetrics(), Server()
        self.served = ServedCertificate(
            certificates, dns_names=frozenset({DNS_NAME}), metrics=self.metrics, clock=self.clock, log=self.log
        )

    def issued(self) -> dict[str, Any]:
        now_at = self.clock.now_at()
        one = self.certificates.issue(frozenset({DNS_NAME}), now_at=now_at, lifetime_seconds=90 * DAY)
        texts = {"tls.crt": one.chain_pem, "tls.key": one.key_pem, "ca.crt": one.authority.pem}
        return {"data": {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}}

    def see(self, secret: dict[str, Any] | None) -> None:
        self.served.see(secret, self.server)


def test_the_end_that_is_shown_is_the_one_at_which_it_is_no_longer_ready() -> None:
    """Of cert-manager's certificate, too: whoever renews it, its end is measured where it is served."""
    certificates = ShortLivedAuthority()
    replica = Replica(certificates)
    certificates.ends_at = replica.clock.now_at() + timedelta(days=1)
    replica.see(replica.issued())
    assert replica.metrics.ends_at == [certificates.ends_at]
    replica.clock.advance(DAY - 1)
    assert replica.served.ready()
    replica.clock.advance(1)
    assert not replica.served.ready()


def test_the_end_stays_that_of_the_served_one_until_there_is_a_better_one() -> None:
    replica = Replica(X509Certificates())
    replica.see(replica.issued())
    (first_at,) = replica.metrics.ends_at
    for secret in (None, {"data": {"tls.crt": "nonsense"}}):
        replica.see(secret)
    assert replica.metrics.ends_at == [first_at]
    assert len(replica.log.of("certificate_not_served")) == 2
    replica.clock.advance(60 * DAY)
    replica.see(replica.issued())
    assert replica.metrics.ends_at[-1] > first_at
    assert len(replica.server.shown) == 2


def test_readiness_is_asked_at_each_scrape_because_a_certificate_ends_without_any_event() -> None:
    registry = prometheus_client.CollectorRegistry()
    metrics = PrometheusInjectorMetrics(registry, outcomes=(), acts=())
    assert registry.get_sample_value("gpumem_injector_ready") == 0
    answers = iter((True, False))
    metrics.ask_readiness(lambda: next(answers))
    assert registry.get_sample_value("gpumem_injector_ready") == 1
    assert registry.get_sample_value("gpumem_injector_ready") == 0
