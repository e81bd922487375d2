"""Each replica's own view: the certificate in the Secret becomes the one that is served.

No file is mounted: the kubelet would bring a new certificate up to a minute and a half late, and each
replica at another time. What cannot be served is left alone, so that the one in use goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from helpers.domain.admission.certificate_plan import ServingCertificate
from helpers.domain.errors import ClusterError
from helpers.ports.certificates import Certificates, CertificateServer
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.ports.injector_metrics import InjectorMetrics
from helpers.ports.log import Log
from helpers.services.certificates import RETRY_SECONDS, read_secret


class ServedCertificate:
    """What this process serves, and whether API servers can be sent to it."""

    def __init__(
        self,
        certificates: Certificates,
        *,
        dns_names: frozenset[str],
        metrics: InjectorMetrics,
        clock: Clock,
        log: Log,
    ) -> None:
        self._certificates = certificates
        self._dns_names = dns_names
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._served: ServingCertificate | None = None

    def ready(self) -> bool:
        """Whether a certificate is served that is valid now and for the names that are asked for."""
        served = self._served
        return served is not None and served.in_time(self._clock.now_at()) and not served.lacks(self._dns_names)

    def see(self, secret: Manifest | None, server: CertificateServer) -> None:
        """The Secret as it is now (None: there is none): what is better than what `server` shows is installed."""
        found = read_secret(secret, self._certificates)
        if not isinstance(found, ServingCertificate):
            reason = "there is no Secret" if found is None else found.reason
            self._log.warning("certificate_not_served", reason=reason, still_serving=self._served is not None)
            return
        if self._served is not None and found.fingerprint == self._served.fingerprint:
            return
        if self.ready() and not found.in_time(self._clock.now_at()):
            self._log.warning("certificate_not_served", reason="it is not valid now", still_serving=True)
            return
        server.install(found)
        self._served = found
        # As in_time has it: nobody trusts a certificate longer than its authority.
        self._metrics.served(min(found.not_after_at, found.authority.not_after_at))
        self._log.info(
            "certificate_served", certificate=found.fingerprint[:16], authority=found.authority.fingerprint[:16],
            not_after_at=found.not_after_at.isoformat(), ready=self.ready(),
        )  # fmt: skip


def follow(
    cluster: Cluster, ref: ObjectRef, seen: Callable[[Manifest | None], None], *, stop: Callable[[], bool], log: Log
) -> None:
    """Calls `seen` with each state of the one object `ref` until `stop()`; None where it was deleted.

    What a retry cannot mend is retried all the same, slowly: a right that was taken away may come back.
    """
    collection = ObjectRef(ref.api_version, ref.kind, "", ref.namespace)
    while not stop():
        try:
            for event in cluster.watch(collection, field_selector=f"metadata.name={ref.name}", stop=stop):
                seen(None if event.type == "DELETED" else event.object)
        except ClusterError as error:
            log.error("watch_failed", object=str(ref), reason=str(error))
            _pause(RETRY_SECONDS, stop)


def _pause(seconds: float, stop: Callable[[], bool]) -> None:
    waited = threading.Event()
    for _ in range(int(seconds / 0.1)):
        if stop() or waited.wait(0.1):
            return
