"""The publisher's loop: three threads see what changes, one decides.

A hung card must not hold up the answer to a Node that registered again, so looking has a thread of
its own beside the two watches.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress

from helpers.domain.dra.devices import Look
from helpers.domain.errors import ClusterError, Forbidden, NotFound, Rejected
from helpers.domain.telemetry.reading import TelemetryError
from helpers.ports.clock import Clock
from helpers.ports.cluster import ObjectRef, Objects, WatchEvent
from helpers.ports.dra_agent import DraMetrics
from helpers.ports.log import Log
from helpers.ports.telemetry import Devices
from helpers.services.dra_publish import SLICES, Publisher

NODES = ObjectRef("v1", "Node")
FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 5.0
_TURN_SECONDS = 0.2
_HOPELESS = (Forbidden, NotFound, Rejected)

Stop = Callable[[], bool]
Seen = WatchEvent | Look | Exception


def look_once(devices: Devices) -> Look:
    """What NVML says now.

    Raises:
        RestartNeeded: Only a new process can ask the driver again.
    """
    try:
        return Look(devices.read(), xid_counts=devices.xid_counts())
    except TelemetryError as error:
        return Look(None, error.fault)


class DraLoop:
    """Feeds one publisher until it is to stop."""

    def __init__(
        self,
        publisher: Publisher,
        *,
        api: Objects,
        devices: Devices,
        metrics: DraMetrics,
        clock: Clock,
        log: Log,
        node_name: str,
        interval_seconds: float,
    ) -> None:
        self._publisher = publisher
        self._api = api
        self._devices = devices
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._node_selector = f"metadata.name={node_name}"
        self._slice_selector = f"spec.nodeName={node_name}"
        self._interval_seconds = interval_seconds
        self._inbox: queue.SimpleQueue[Seen] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._retry_at: float | None = None

    def run(self, stop: Stop) -> None:
        """Publishes until `stop()`, which is asked several times a second.

        Raises:
            Forbidden: A permission is missing; the message names it.
            NotFound, Rejected: The API server does not serve or take ResourceSlices.
            RestartNeeded: Only a new process can ask the driver again.

        Whatever else ends one of its threads is raised, too.
        """
        if not self._begun(stop):
            return
        threads = [
            threading.Thread(target=self._watch, args=(NODES, self._node_selector), name="watch-node", daemon=True),
            threading.Thread(target=self._watch, args=(SLICES, self._slice_selector), name="watch-slices", daemon=True),
            threading.Thread(target=self._look, name="look", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            while not stop():
                self._turn()
        finally:
            self._ended.set()

    def _begun(self, stop: Stop) -> bool:
        while not stop():
            try:
                nodes = self._api.list(NODES, field_selector=self._node_selector)
                slices = self._api.list(SLICES, field_selector=self._slice_selector)
            except _HOPELESS:
                raise
            except ClusterError as error:
                self._later(error)
                self._clock.sleep_seconds(min(_TURN_SECONDS, self._retry_seconds))
                continue
            self._publisher.begin(nodes, slices)
            return True
        return False

    def _turn(self) -> None:
        changed = False
        with suppress(queue.Empty):
            self._take(self._inbox.get(timeout=_TURN_SECONDS))
            changed = True
            while True:
                self._take(self._inbox.get_nowait())
        due = self._retry_at is not None and self._clock.monotonic_seconds() >= self._retry_at
        if not (changed or due):
            return
        try:
            self._publisher.reconcile()
        except _HOPELESS:
            raise
        except ClusterError as error:
            self._later(error)
        else:
            self._retry_at, self._retry_seconds = None, FIRST_RETRY_SECONDS

    def _take(self, seen: Seen) -> None:
        if isinstance(seen, Exception):
            raise seen
        if isinstance(seen, Look):
            self._publisher.looked(seen)
        else:
            self._publisher.saw(seen)

    def _later(self, error: ClusterError) -> None:
        self._metrics.failed("publish")
        self._log.warning("publish_failed", reason=str(error), retry_seconds=self._retry_seconds)
        self._retry_at = self._clock.monotonic_seconds() + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, LONGEST_RETRY_SECONDS)

    def _watch(self, kind: ObjectRef, selector: str) -> None:
        try:
            for event in self._api.watch(kind, field_selector=selector, stop=self._ended.is_set):
                self._inbox.put(event)
        except Exception as error:  # noqa: BLE001 - raised in `_take`: an agent with one eye shut would stay healthy
            self._inbox.put(error)

    def _look(self) -> None:
        try:
            while not self._ended.is_set():
                began_seconds = self._clock.monotonic_seconds()
                self._inbox.put(look_once(self._devices))
                self._ended.wait(max(0.1, self._interval_seconds - (self._clock.monotonic_seconds() - began_seconds)))
        except Exception as error:  # noqa: BLE001 - raised in `_take`, as above; also where only a new process can look
            self._inbox.put(error)
