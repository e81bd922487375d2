"""The watchdog's acts: announced before they are begun, kept over a change of the leader.

Only real acts are stored. A dry run restricts nothing but itself, so a new leader may say once more
what the last one said; in return the stored list is bounded by the hourly caps.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta

from helpers.domain.errors import ClusterError
from helpers.domain.watchdog.decisions import Recycle
from helpers.domain.watchdog.facts import ActRecord, Outcome
from helpers.domain.watchdog.recycling import CAP_WINDOW
from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.ports.log import Log
from helpers.ports.watchdog_acts import ActStore


class History:
    """All acts that still matter. Safe to share between threads.

    `term` changes whenever this process takes the lead (again): an act that was begun in an earlier
    term is not continued, because the leader between may have settled it.
    """

    def __init__(self, store: ActStore, settings: WatchdogSettings, log: Log) -> None:
        self._store = store
        self._settings = settings
        self._log = log
        self._lock = threading.RLock()
        self._records: dict[str, ActRecord] = {}
        self._unsaved = False
        self.term = 0
        self.loaded = False

    def load(self) -> None:
        """Takes over what earlier leaders did.

        Raises:
            ClusterError: it cannot be read now.
            InputError: what is there cannot be read ever.
        """
        stored = self._store.load()
        with self._lock:
            dry = {key: record for key, record in self._records.items() if record.dry_run}
            self._records = dry | {_key(record): record for record in stored}
            self._unsaved = False
            self.term += 1
            self.loaded = True

    def forget(self) -> None:
        """Leadership is gone: what is known may be outdated from here on."""
        self.loaded = False

    def all(self) -> tuple[ActRecord, ...]:
        """Every act, oldest first."""
        with self._lock:
            return tuple(sorted(self._records.values(), key=lambda record: record.started_at))

    def unfinished(self) -> tuple[ActRecord, ...]:
        """Acts under way, one's own and those that an earlier leader left."""
        return tuple(record for record in self.all() if record.finished_at is None)

    def note(self, decision: Recycle, now: datetime) -> ActRecord:
        """Remembers, here only, that an act on the victim is being prepared."""
        victim = decision.victim
        record = ActRecord(
            subject=victim.subject,
            namespace=victim.namespace,
            pod=victim.name,
            uid=victim.uid,
            node=victim.node,
            uuid=decision.card.uuid,
            started_at=now,
            finished_at=now if decision.dry_run else None,
            dry_run=decision.dry_run,
            outcome=Outcome.DRY_RUN if decision.dry_run else None,
        )
        with self._lock:
            self._records[_key(record)] = record
        return record

    def announce(self, record: ActRecord, now: datetime) -> str:
        """Stores the record, so that whoever leads next knows of the act; why not, else empty.

        Without it the act must not begin. One at a time, so that the caps hold over parallel acts.
        """
        with self._lock:
            if not self.loaded or _key(record) not in self._records:
                return "this process does not lead any more"
            self._prune(now)
            if len(self._stored()) > self._store.capacity_count:
                return f"more than {self._store.capacity_count} acts in the last hour: they cannot be kept"
            return self._save()

    def drop(self, record: ActRecord) -> None:
        """Forgets an act that was never begun."""
        with self._lock:
            self._records.pop(_key(record), None)
            # A write that seemed to fail may have arrived, and another act's may have carried this one.
            self._unsaved = not record.dry_run
        self.settle()

    def finish(self, record: ActRecord, outcome: Outcome, freed_mib: int | None, now: datetime) -> None:
        """Notes the end of an act. Where that cannot be stored now, it is tried again by `settle`."""
        with self._lock:
            finished = replace(record, finished_at=now, outcome=outcome, freed_mib=freed_mib)
            self._records[_key(record)] = finished
            self._unsaved = True
        self.settle()

    def settle(self) -> None:
        """Stores what could not be stored before."""
        with self._lock:
            if not (self._unsaved and self.loaded):
                return
            problem = self._save()
            self._unsaved = bool(problem)
        if problem:
            self._log.warning("history_not_saved", reason=problem)

    def _save(self) -> str:
        try:
            self._store.save(self._stored())
        except ClusterError as error:
            return str(error)
        return ""

    def _stored(self) -> list[ActRecord]:
        return [record for record in self.all() if not record.dry_run]

    def _prune(self, now: datetime) -> None:
        kept = max(CAP_WINDOW, timedelta(seconds=self._settings.cooldown_seconds))
        for key, record in list(self._records.items()):
            if record.finished_at is not None and now - record.finished_at > kept:
                del self._records[key]

    def prune(self, now: datetime) -> None:
        """Forgets what neither a cap nor a cool-down asks for any more."""
        with self._lock:
            self._prune(now)


def _key(record: ActRecord) -> str:
    # One process may act on a pod twice (a hook today, an eviction in an hour), never at one instant.
    return f"{record.uid} {record.uuid} {record.started_at.isoformat()} {record.dry_run}"
