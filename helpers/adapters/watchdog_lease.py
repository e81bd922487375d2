"""The watchdog's Lease: who leads, and in an annotation what the leaders did.

Both in one object, because that makes an act's announcement a proof of leadership: it is written
against the resource version of a Lease that names this process as its holder, so a process that was
overtaken, however long it slept, gets a Conflict and does not act. It also needs no further right.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from helpers.adapters.lease import API_VERSION, LeaderElection, LeaseTimes
from helpers.domain.errors import Conflict, InputError
from helpers.domain.watchdog.facts import ActRecord
from helpers.ports.cluster import Cluster, Manifest, ObjectRef

# Every third second, a read and a write: 0.7 requests a second, and two more tries before the deadline.
WATCHDOG_LEASE_TIMES = LeaseTimes(duration_seconds=15, renew_deadline_seconds=10.0, retry_seconds=3.0)
# All annotations of an object may have 256 KiB together; a record is well below 600 bytes.
MOST_RECORDS_COUNT = 200

_RECORDS = TypeAdapter(tuple[ActRecord, ...])


class WatchdogElection(LeaderElection):
    """Leader election that shares its Lease with `LeaseActs` without getting into its way."""

    def __init__(self, *arguments: Any, lock: threading.RLock, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._lease_lock = lock

    def try_once(self) -> bool:
        """One try; not between the read and the write of the acts, which would make it a Conflict."""
        with self._lease_lock:
            return super().try_once()

    def give_up(self) -> None:
        """Lets the next candidate take the lease at once."""
        with self._lease_lock:
            super().give_up()


class LeaseActs:
    """`ports.watchdog_acts.ActStore` in an annotation of the Lease."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        namespace: str,
        name: str,
        identity: str,
        label_prefix: str,
        lock: threading.RLock,
    ) -> None:
        self._cluster = cluster
        self._ref = ObjectRef(API_VERSION, "Lease", name, namespace)
        self._identity = identity
        self._annotation = f"{label_prefix}/acts"
        self._lock = lock

    @property
    def capacity_count(self) -> int:
        """How many records fit."""
        return MOST_RECORDS_COUNT

    def load(self) -> tuple[ActRecord, ...]:
        """All records; none where there is no Lease yet."""
        lease = self._cluster.get(self._ref)
        text = (lease or {"metadata": {}})["metadata"].get("annotations", {}).get(self._annotation)
        if text is None:
            return ()
        try:
            return _RECORDS.validate_json(text)
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            raise InputError(
                f"{self._ref} annotation {self._annotation}: {'.'.join(map(str, detail['loc']))}: {detail['msg']}. "
                "Without it nobody knows what cools down, so nothing is recycled. Remove the annotation to begin anew."
            ) from error

    def save(self, records: Sequence[ActRecord]) -> None:
        """Replaces all records, if this process holds the Lease.

        Raises:
            ValueError: more than fit.
            Conflict: it does not hold it.
            ClusterError: nothing was written, or nobody knows.
        """
        if len(records) > MOST_RECORDS_COUNT:
            raise ValueError(f"{len(records)} records, and only {MOST_RECORDS_COUNT} fit")
        document = _RECORDS.dump_python(tuple(records), mode="json")
        slim = [{key: value for key, value in record.items() if value is not None} for record in document]
        for record in slim:
            record.setdefault("finished_at", None)
        with self._lock:
            lease = self._cluster.get(self._ref)
            if lease is None or _holder(lease) != self._identity:
                raise Conflict(f"{self._ref}: {self._identity} does not hold it, so nothing is announced")
            patch = {
                "metadata": {
                    "resourceVersion": lease["metadata"]["resourceVersion"],
                    "annotations": {self._annotation: json.dumps(slim, sort_keys=True, separators=(",", ":"))},
                }
            }
            self._cluster.merge_patch(self._ref, patch, field_manager=self._ref.name)


def _holder(lease: Manifest) -> str:
    return str((lease.get("spec") or {}).get("holderIdentity") or "")
