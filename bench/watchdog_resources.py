"""What a watchdog costs at 100 GPU nodes with 1,000 tenant pods: CPU a pass, memory, API requests.

The whole of it: 100 exporters over HTTP (in a process of their own, so that their CPU is not
counted), pods by watch from an API server of full-sized Pod objects (the same), decisions, the
Lease, everything wired as `gpumem watchdog run` does. One JSON line; run: python -m bench.watchdog_resources
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bench.watchdog_world import EXPORTERS_COUNT, PODS_PER_NODE, exporter_text, pod_object, settings
from helpers.adapters.kubernetes_ import connect
from helpers.apps.watchdog import RunSettings, run_watchdog
from helpers.services.watchdog import Watchdog
from lab.plain_kubeconfig import write_kubeconfig

TARGET_CPU_MS, TARGET_RSS_MIB, TARGET_REQUESTS = 200.0, 120.0, 1.0
_CORE = [{"name": "pods", "kind": "Pod", "namespaced": True}, {"name": "events", "kind": "Event", "namespaced": True}]
_LEASES = [{"name": "leases", "kind": "Lease", "namespaced": True}]


class _Handler(BaseHTTPRequestHandler):
    """Exporters at `/NODE`, and as much of an API server as is asked for."""

    protocol_version = "HTTP/1.1"
    lease: dict[str, Any] | None = None
    version = 1

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path.startswith("/node-"):
            self._send(exporter_text(int(url.path.removeprefix("/node-")), time.time()).encode())
        elif url.path in ("/api/v1", "/apis/coordination.k8s.io/v1"):
            self._json({"resources": _CORE if url.path == "/api/v1" else _LEASES})
        elif url.path.endswith("/leases/gpumem-watchdog"):
            self._json(_Handler.lease or {"message": "none"}, 200 if _Handler.lease else 404)
        elif "watch" in query:
            self._quiet_watch(int(query["timeoutSeconds"][0]))
        else:
            pods = [pod_object(node, i) for node in range(EXPORTERS_COUNT) for i in range(PODS_PER_NODE)]
            first = int(query.get("continue", ["0"])[0])
            more = {"continue": str(first + 500)} if first + 500 < len(pods) else {}
            self._json({"metadata": {"resourceVersion": "5", **more}, "items": pods[first : first + 500]})

    def do_POST(self) -> None:
        self._write()

    def do_PATCH(self) -> None:
        self._write()

    def _write(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "leases" in self.path:
            before = _Handler.lease or {"metadata": {}, "spec": {}}
            _Handler.version += 1
            _Handler.lease = {
                "metadata": {**before["metadata"], **body["metadata"], "resourceVersion": str(_Handler.version)},
                "spec": {**before["spec"], **body.get("spec", {})},
            }
        self._json(body)

    def _quiet_watch(self, seconds: int) -> None:
        self.send_response_only(200)
        self.send_header("Connection", "close")
        self.end_headers()
        time.sleep(seconds)
        self.close_connection = True

    def _json(self, document: Any, status: int = 200) -> None:
        self._send(json.dumps(document).encode(), status)

    def _send(self, content: bytes, status: int = 200) -> None:
        if not urlsplit(self.path).path.startswith("/node-"):
            self.server.requests_count += 1  # type: ignore[attr-defined]
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    requests_count = 0


def serve(pipe: Connection) -> None:
    """The other process: tells its port, then answers each word with the requests so far."""
    server = _Server(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pipe.send(server.server_port)
    while pipe.recv() != "stop":
        pipe.send(server.requests_count)


def main() -> None:
    """Prints the line; exits 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=45)
    seconds = parser.parse_args().seconds
    here, there = multiprocessing.Pipe()
    other = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    other.start()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(here, Path(folder), seconds)
    here.send("stop")
    other.join(10)
    missed = (
        figures["pass_cpu_ms_p95"] > TARGET_CPU_MS
        or figures["rss_mib"] > TARGET_RSS_MIB
        or figures["api_requests_per_second"] > TARGET_REQUESTS
    )
    print(json.dumps(figures))
    raise SystemExit(int(missed))


def measure(pipe: Connection, folder: Path, seconds: int) -> dict[str, Any]:
    """Runs the program for that long."""
    port = pipe.recv()
    passes: list[float] = []
    whole = Watchdog.pass_over

    def timed(self: Watchdog) -> Any:
        began = time.process_time()
        decisions = whole(self)
        passes.append(1000 * (time.process_time() - began))
        assert len(decisions) == EXPORTERS_COUNT, len(decisions)  # noqa: S101 - a figure of another thing is none
        return decisions

    Watchdog.pass_over = timed  # type: ignore[method-assign]
    sys.stderr = (folder / "log").open("w")
    run = RunSettings(
        resource="viktorbarzin.me/gpumem",
        namespace="nvidia",
        exporters=tuple(f"node-{i}=http://127.0.0.1:{port}/node-{i}" for i in range(EXPORTERS_COUNT)),
        metrics_address="127.0.0.1:0",
    )
    until = time.monotonic() + seconds
    counts: list[tuple[float, int]] = []

    def stop() -> bool:
        return time.monotonic() > until

    def count() -> None:
        for at in (10.0, seconds - 2.0):
            time.sleep(max(0.0, until - seconds + at - time.monotonic()))
            pipe.send("count")
            counts.append((time.monotonic(), pipe.recv()))

    threading.Thread(target=count, daemon=True).start()
    cpu_before = time.process_time()
    run_watchdog(connect(write_kubeconfig(folder, f"http://127.0.0.1:{port}")), settings(), run, stop=stop)
    cpu_seconds = time.process_time() - cpu_before
    (began, first), (ended, last) = counts
    ordered = sorted(passes[1:])
    return {
        "bench": "watchdog_resources",
        "nodes": EXPORTERS_COUNT,
        "pods": EXPORTERS_COUNT * PODS_PER_NODE,
        "passes": len(ordered),
        "first_pass_cpu_ms": round(passes[0], 1),
        "pass_cpu_ms_p50": round(statistics.median(ordered), 1),
        "pass_cpu_ms_p95": round(ordered[int(0.95 * (len(ordered) - 1))], 1),
        "target_cpu_ms": TARGET_CPU_MS,
        "cpu_ratio_of_one_core": round(cpu_seconds / seconds, 4),
        "rss_mib": round(_rss_mib(), 1),
        "target_rss_mib": TARGET_RSS_MIB,
        "api_requests_per_second": round((last - first) / (ended - began), 2),
        "target_api_requests_per_second": TARGET_REQUESTS,
        "interval_seconds": 5.0,
    }


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
