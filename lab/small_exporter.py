"""A node's exporter in the lab: real text over real HTTP, fed by what the lab's pods use, faulty on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from helpers.domain.memory import mib_to_bytes
from helpers.domain.telemetry.exposition import exposition
from helpers.domain.telemetry.metrics import families
from helpers.domain.telemetry.reading import Attribution, DeviceSample, Gpu, MemoryReading, Snapshot, TenantUse
from lab.usage import PodUsage

PHYSICAL_MIB, RESERVED_MIB = 15360, 450
INTERVAL_SECONDS = 1.0  # the exporter's default


@dataclass
class LabExporter:
    """`fault` gets each answer and gives another one; None: it stalls. `skew_seconds`: its clock is off."""

    node: str
    usage: Callable[[], dict[str, PodUsage]]
    port: int = 0
    fault: Callable[[str], str | None] = lambda text: text
    skew_seconds: float = 0.0
    interval_seconds: float = INTERVAL_SECONDS
    _text: str = ""
    _stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def target(self) -> str:
        """How a watchdog is told of it."""
        return f"{self.node}=http://127.0.0.1:{self.port}/metrics"

    def sample(self) -> None:
        """One round of the exporter."""
        uses = {pod: one.used_mib for pod, one in self.usage().items() if one.node == self.node}
        used_mib = sum(uses.values())
        gpu = Gpu(0, f"GPU-{self.node}-0", "Tesla T4")
        free_mib = PHYSICAL_MIB - RESERVED_MIB - used_mib
        memory = MemoryReading(*(mib_to_bytes(mib) for mib in (PHYSICAL_MIB, used_mib, free_mib, RESERVED_MIB)))
        tenants = tuple(
            TenantUse(namespace, pod, "main", mib_to_bytes(mib))
            for (namespace, _, pod), mib in ((name.partition("/"), mib) for name, mib in uses.items())
        )
        now_at = datetime.now(UTC) + timedelta(seconds=self.skew_seconds)
        device = DeviceSample(gpu, now_at, memory, Attribution(tenants, 0))
        self._text = exposition(families(Snapshot(now_at, (device,), source_up=True), version="lab"))

    def answer(self) -> str | None:
        """The text of the last sample, as `fault` leaves it; None: stall."""
        return self.fault(self._text)

    def run(self) -> None:
        """Samples until stopped."""
        while not self._stopped.wait(self.interval_seconds):
            self.sample()

    def stop(self) -> None:
        """Ends `run`."""
        self._stopped.set()


@contextmanager
def lab_exporter(node: str, usage: Callable[[], dict[str, PodUsage]], host: str = "127.0.0.1") -> Iterator[LabExporter]:
    """Runs one on loopback."""
    exporter = LabExporter(node, usage)
    exporter.sample()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            text = exporter.answer()
            if text is None:
                time.sleep(30)
                self.close_connection = True
                return
            content = text.encode()
            self.send_response_only(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.block_on_close = False
    exporter.port = server.server_port
    threads = [
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True),
        threading.Thread(target=exporter.run, daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield exporter
    finally:
        exporter.stop()
        server.shutdown()
        server.server_close()
