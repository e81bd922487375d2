"""Exporters over HTTP: several at a time, by address, bounded in time and size, believed only if whole."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from urllib.parse import urlsplit

from helpers.adapters.exporter_samples import SampleReader
from helpers.domain.errors import InputError
from helpers.domain.telemetry.exposition import ExpositionError
from helpers.ports.clock import Clock
from helpers.ports.watchdog_telemetry import ExporterTarget, Scrape

PARALLEL_COUNT = 24
DEADLINE_SECONDS = 2.0
HIGHEST_ANSWER_BYTES = 8 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_PATH = "/metrics"


def parse_target(text: str) -> ExporterTarget:
    """`t4-node=http://127.0.0.1:9836/metrics`, as given on a command line.

    Raises:
        InputError: it is nothing of that form, or names a host: a broken DNS must change nothing.
    """
    node, equals, url = text.partition("=")
    parts = urlsplit(url)
    rule = "is not NODE=http://ADDRESS:PORT[/metrics]"
    if not (node and equals and parts.scheme == "http" and parts.hostname):
        raise InputError(f"exporter {text!r} {rule}")
    try:
        ipaddress.ip_address(parts.hostname)
        port = parts.port
    except ValueError as error:
        raise InputError(f"exporter {text!r} {rule}: {error}. Give the address itself, not a name.") from error
    if port is None:
        raise InputError(f"exporter {text!r} {rule}: the port is missing")
    return ExporterTarget(node, url if parts.path.strip("/") else f"http://{parts.netloc}{_PATH}")


class HttpExporters:
    """`ports.watchdog_telemetry.Exporters`; keeps one connection an exporter."""

    def __init__(self, clock: Clock, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._clock = clock
        self._deadline_seconds = deadline_seconds
        self._pool = ThreadPoolExecutor(PARALLEL_COUNT, thread_name_prefix="scrape")
        self._lock = threading.Lock()
        self._exporters: dict[ExporterTarget, _Exporter] = {}

    def scrape(self, targets: Iterable[ExporterTarget]) -> tuple[Scrape, ...]:
        """One Scrape a target; those that do not answer within the deadline are given up and cut off."""
        begun: dict[Future[Scrape], _Exporter] = {}
        # Those that were silent last time come last, so that they do not keep a worker from the others.
        for exporter in sorted((self._exporter(target) for target in targets), key=lambda one: one.silent):
            begun[self._pool.submit(exporter.scrape, self._deadline_seconds)] = exporter
        done, late = wait(begun, timeout=self._rounds(len(begun)) * self._deadline_seconds)
        found = [future.result() for future in done]
        for future in late:
            exporter, why = begun[future], f"no answer in {self._deadline_seconds:.1f} s"
            if future.cancel():
                why = "not asked in time: too many others are silent"  # it comes before them next time
            else:
                # One that was begun late and is cut short proves nothing: next time it is not put last.
                exporter.silent = exporter.had_its_time(self._deadline_seconds)
                exporter.cut()
            found.append(Scrape(exporter.target, None, why))
        return tuple(found)

    def forget(self, targets: Iterable[ExporterTarget]) -> None:
        """Closes the connections to exporters that are gone."""
        with self._lock:
            gone = [self._exporters.pop(target) for target in targets if target in self._exporters]
        for exporter in gone:
            exporter.cut()

    def close(self) -> None:
        """Ends all connections."""
        self.forget(list(self._exporters))
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _exporter(self, target: ExporterTarget) -> _Exporter:
        with self._lock:
            return self._exporters.setdefault(target, _Exporter(target, self._clock))

    def _rounds(self, count: int) -> int:
        # A worker may have a stalled one before its next; more than that many rounds are never waited for.
        return min(1 + count // PARALLEL_COUNT, 2)


class _Exporter:
    """One exporter: its connection, and what its last answer looked like."""

    def __init__(self, target: ExporterTarget, clock: Clock) -> None:
        self.target = target
        self.silent = False
        self._clock = clock
        self._reader = SampleReader(target.node)
        self._busy = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._began_seconds = 0.0

    def had_its_time(self, deadline_seconds: float) -> bool:
        """Whether the last scrape began about `deadline_seconds` ago or earlier."""
        return time.monotonic() - self._began_seconds >= 0.9 * deadline_seconds

    def scrape(self, deadline_seconds: float) -> Scrape:
        self._began_seconds = time.monotonic()
        until_seconds = self._began_seconds + deadline_seconds
        if not self._busy.acquire(timeout=deadline_seconds):
            return Scrape(self.target, None, "the scrape before it has not ended")
        try:
            text = self._get(until_seconds)
            self.silent = False
            return Scrape(self.target, self._reader.read(text, self._clock.now_at()))
        except ExpositionError as error:
            return Scrape(self.target, None, f"malformed answer: {error}", lied=True)
        except (OSError, http.client.HTTPException, _Refused, AttributeError) as error:
            # AttributeError: `cut` took the socket away under the library's hands.
            self.silent = self.had_its_time(deadline_seconds)
            self.cut()
            return Scrape(self.target, None, f"no answer: {error or type(error).__name__}")
        finally:
            self._busy.release()

    def cut(self) -> None:
        """Ends the connection, and with it whoever waits on it."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()

    def _get(self, until_seconds: float) -> str:
        kept = self._connection is not None
        try:
            return self._ask(until_seconds)
        except (http.client.RemoteDisconnected, ConnectionError, http.client.CannotSendRequest):
            # A kept connection that the exporter had closed meanwhile (its rollout, its idle bound).
            self.cut()
            if not kept:
                raise
            return self._ask(until_seconds)

    def _ask(self, until_seconds: float) -> str:
        parts = urlsplit(self.target.url)
        connection = self._connection
        if connection is None:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_left(until_seconds))
            self._connection = connection
        if connection.sock is not None:
            connection.sock.settimeout(_left(until_seconds))
        connection.request("GET", parts.path or _PATH)
        answer = connection.getresponse()
        content = bytearray()
        while chunk := answer.read1(_CHUNK_BYTES):
            content += chunk
            if len(content) > HIGHEST_ANSWER_BYTES:
                raise _Refused(f"more than {HIGHEST_ANSWER_BYTES} bytes")
            if connection.sock is not None:  # None: the answer ends the connection, and all is read
                connection.sock.settimeout(_left(until_seconds))
        answer.close()  # otherwise the library takes the connection for one that is still being read
        if answer.status != http.client.OK:
            raise _Refused(f"status {answer.status}")
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise ExpositionError(f"no UTF-8: {error}") from error


class _Refused(Exception):
    """An answer that is none."""


def _left(until_seconds: float) -> float:
    left_seconds = until_seconds - time.monotonic()
    if left_seconds <= 0:
        raise TimeoutError("too slow")
    return left_seconds
