"""Leader election by a `coordination.k8s.io` Lease: at most one of several processes acts.

The record's times are written for people and never compared with our own clock: another machine's
clock may be wrong. A candidate counts the lease's duration on its own monotonic clock from when it
*saw* the record change last, and the holder stops acting earlier than that after the *start* of its
last successful renewal. Writes carry the resource version that was read, so that of two candidates
the slower one gets a Conflict. (The method is client-go's `tools/leaderelection`.)
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from helpers.domain.errors import ClusterError, Conflict, Forbidden
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.ports.log import Log

API_VERSION = "coordination.k8s.io/v1"
STOP_BOUND_SECONDS = 20.0


@dataclass(frozen=True)
class LeaseTimes:
    """Client-go's defaults: a dead leader is followed after 15 s; one that cannot renew stops after 10 s."""

    duration_seconds: int = 15
    renew_deadline_seconds: float = 10.0
    retry_seconds: float = 2.0

    def __post_init__(self) -> None:
        if not self.duration_seconds > self.renew_deadline_seconds > self.retry_seconds > 0:
            raise ValueError(f"{self}: two could lead at once unless duration > renew deadline > retry > 0")


@dataclass(frozen=True)
class _Seen:
    """A record as last read, and when on our clock it was first seen like that."""

    holder: str
    renewed: str
    at_seconds: float


class LeaderElection:
    """`ports.leadership.Leadership`. `with` runs it in a thread of its own and gives the lease up at the end."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        log: Log,
        *,
        namespace: str,
        name: str,
        identity: str,
        times: LeaseTimes | None = None,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._log = log
        self._ref = ObjectRef(API_VERSION, "Lease", name, namespace)
        self._identity = identity
        self._times = times or LeaseTimes()
        self._seen: _Seen | None = None
        self._leads_until_seconds: float | None = None
        self._was_leading = False
        self._refused: Exception | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease-{name}", daemon=True)

    def __enter__(self) -> LeaderElection:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(STOP_BOUND_SECONDS)
        self.give_up()

    def leads(self) -> bool:
        """Whether this process may act now.

        Raises:
            Forbidden: the lease may not be read or written; waiting would not mend it.

        Whatever else ended the renewing is raised, too.
        """
        if self._refused is not None:
            raise self._refused
        until_seconds = self._leads_until_seconds
        return until_seconds is not None and self._clock.monotonic_seconds() < until_seconds

    def try_once(self) -> bool:
        """Takes or renews the lease if that is possible now; whether this process leads afterwards.

        Raises:
            Forbidden: the lease may not be read or written.
        """
        started_seconds = self._clock.monotonic_seconds()
        try:
            if self._take():
                self._leads_until_seconds = started_seconds + self._times.renew_deadline_seconds
        except Forbidden:
            self._leads_until_seconds = None
            raise
        except Conflict:
            # Somebody was quicker. What they wrote is read at the next try.
            self._leads_until_seconds = None
        except ClusterError as error:
            # Not answered is not refused: what was renewed holds until its deadline.
            self._log.warning("lease_not_renewed", lease=str(self._ref), reason=str(error))
        leading = self.leads()
        if leading != self._was_leading:
            self._was_leading = leading
            holder = self._identity if leading or self._seen is None else self._seen.holder
            self._log.info(
                "leadership_won" if leading else "leadership_lost", lease=str(self._ref),
                identity=self._identity, holder=holder,
            )  # fmt: skip
        return leading

    def give_up(self) -> None:
        """Lets the next candidate take the lease at once. Nothing happens where it is not ours."""
        held, self._leads_until_seconds = self._leads_until_seconds, None
        if held is None:
            return
        try:
            lease = self._cluster.get(self._ref)
            if lease is not None and _holder(lease) == self._identity:
                self._write(lease, {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": self._now()})
                self._log.info("leadership_given_up", lease=str(self._ref), identity=self._identity)
        except ClusterError as error:
            # The duration runs out by itself.
            self._log.warning("lease_not_given_up", lease=str(self._ref), reason=str(error))

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.try_once()
            except Forbidden as error:
                self._log.error("lease_forbidden", lease=str(self._ref), reason=str(error))
                self._refused = error
                return
            except Exception as error:  # noqa: BLE001 - raised by `leads`: one that never leads again would seem well
                self._log.error("lease_failed", lease=str(self._ref), reason=f"{type(error).__name__}: {error}")
                self._refused = error
                return
            self._stopped.wait(self._times.retry_seconds)

    def _take(self) -> bool:
        lease = self._cluster.get(self._ref)
        # After the answer: counted from before a slow one, the duration would seem to end early.
        read_seconds = self._clock.monotonic_seconds()
        if lease is None:
            self._create()
            return True
        holder, spec = _holder(lease), lease.get("spec") or {}
        if holder == self._identity:
            self._write(lease, {"renewTime": self._now(), "leaseDurationSeconds": self._times.duration_seconds})
            return True
        if holder and not self._ran_out(lease, read_seconds):
            self._leads_until_seconds = None
            return False
        now = self._now()
        self._write(
            lease,
            {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": self._times.duration_seconds,
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1,
            },
        )
        return True

    def _ran_out(self, lease: Manifest, read_seconds: float) -> bool:
        spec = lease.get("spec") or {}
        holder, renewed = _holder(lease), str(spec.get("renewTime", ""))
        if self._seen is None or (self._seen.holder, self._seen.renewed) != (holder, renewed):
            self._seen = _Seen(holder, renewed, read_seconds)
        # The holder's own duration counts, should it differ from ours.
        duration_seconds = float(spec.get("leaseDurationSeconds") or self._times.duration_seconds)
        return read_seconds - self._seen.at_seconds >= duration_seconds

    def _create(self) -> None:
        now = self._now()
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._times.duration_seconds,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        metadata = {"name": self._ref.name, "namespace": self._ref.namespace}
        manifest = {"apiVersion": API_VERSION, "kind": "Lease", "metadata": metadata, "spec": spec}
        self._cluster.create(manifest, field_manager=self._ref.name)

    def _write(self, lease: Manifest, spec: dict[str, Any]) -> None:
        patch = {"metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]}, "spec": spec}
        self._cluster.merge_patch(self._ref, patch, field_manager=self._ref.name)

    def _now(self) -> str:
        return self._clock.now_at().strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _holder(lease: Manifest) -> str:
    return str((lease.get("spec") or {}).get("holderIdentity") or "")
