"""Scrape latency and memory of the real exporter process: 8 cards, 64 processes each, all in pods.

Real are the process, its HTTP server, pynvml and the reading of proc files; the driver library, the
proc tree and the API server that names the pods are the lab's. Sampling runs on at its default
interval meanwhile. Prints one JSON line; exit code 1 where a target is missed.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from lab.fake_nvml.build import ensure_library
from lab.fake_nvml.host_proc import HostProcess, HostProcTree, containerd_systemd
from lab.fake_nvml.state import STATE_VARIABLE, FakeDriver, FakeGpu, FakeProcess

CARDS = 8
PROCESSES_PER_CARD = 64
SCRAPES = 600
PAUSE_SECONDS = 0.02
TARGET_P99_MS = 50.0
TARGET_RSS_MIB = 60.0
RESOURCE = "viktorbarzin.me/gpumem"
_MIB = 1024 * 1024
_START_SECONDS = 30.0


def main() -> int:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pods = _world(folder)
        with _api(pods) as api_port, _exporter(folder, api_port) as (port, pid):
            _until_complete(port)
            figures = _scraped(port)
            rss_mib = _memory_mib(pid, "VmRSS")
            peak_mib = _memory_mib(pid, "VmHWM")
            cpu_ratio = _cpu_ratio(pid)
    p99 = statistics.quantiles(figures, n=100)[98]
    result = {
        "benchmark": "exporter_scrape",
        "cards": CARDS,
        "processes": CARDS * PROCESSES_PER_CARD,
        "scrapes": SCRAPES,
        "p50_ms": round(statistics.median(figures), 2),
        "p99_ms": round(p99, 2),
        "max_ms": round(max(figures), 2),
        "rss_mib": round(rss_mib, 1),
        "peak_rss_mib": round(peak_mib, 1),
        "cpu_ratio": round(cpu_ratio, 3),
        "compared_with": {"p99_ms": TARGET_P99_MS, "rss_mib": TARGET_RSS_MIB},
    }
    print(json.dumps(result))
    return 0 if p99 < TARGET_P99_MS and peak_mib < TARGET_RSS_MIB else 1


def _world(folder: Path) -> list[dict[str, object]]:
    """The node's files; every process is in a pod of its own. Returns the pods."""
    cards, processes, pods = [], [], []
    for card in range(CARDS):
        rows = []
        for number in range(PROCESSES_PER_CARD):
            pid = 1000 + card * PROCESSES_PER_CARD + number
            uid, container_id = f"{pid:08x}-1111-4222-8333-444444444444", f"{pid:064x}"
            rows.append(FakeProcess(pid, 100 * _MIB))
            processes.append(HostProcess(pid, containerd_systemd(uid, container_id)))
            pods.append(_pod(pid, uid, container_id))
        used = PROCESSES_PER_CARD * 100 * _MIB
        cards.append(FakeGpu(f"GPU-{card:08d}", 24576 * _MIB, used, 450 * _MIB, processes=tuple(rows)))
    FakeDriver(tuple(cards)).write(folder / "state")
    HostProcTree(folder / "proc").write(processes)
    return pods


def _pod(number: int, uid: str, container_id: str) -> dict[str, object]:
    # About as large as a real pod: names, mounts and conditions that nobody here reads.
    padding = {f"example.io/annotation-{each}": "x" * 100 for each in range(30)}
    return {
        "metadata": {"name": f"tenant-{number}", "namespace": "tenants", "uid": uid, "annotations": padding},
        "spec": {"containers": [{"name": "main", "resources": {"limits": {RESOURCE: "5k"}}}]},
        "status": {
            "phase": "Running",
            "containerStatuses": [{"name": "main", "containerID": f"containerd://{container_id}"}],
        },
    }


@contextlib.contextmanager
def _api(pods: list[dict[str, object]]) -> Iterator[int]:
    """An API server that knows one answer; loopback, any free port."""
    body = json.dumps({"kind": "PodList", "items": pods}).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def _exporter(folder: Path, api_port: int) -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "helpers.apps.exporter", "--listen-port", "0", "--host-proc", str(folder / "proc")]
    command += ["--node-name", "bench", "--pods-url", f"http://127.0.0.1:{api_port}"]
    token = folder / "token"
    token.write_text("bench")
    command += ["--token-file", str(token), "--resource", RESOURCE]
    environment = os.environ | {"LD_LIBRARY_PATH": str(ensure_library()), STATE_VARIABLE: str(folder / "state")}
    log = folder / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, env=environment, stderr=stderr, cwd=Path(__file__).parents[1])
    try:
        yield _port(log, process), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_START_SECONDS)


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r'"event": "started".*"port": (\d+)', log.read_text()):
            return int(found[1])
        time.sleep(0.05)
    raise RuntimeError(f"the exporter did not start:\n{log.read_text()}")


def _until_complete(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    wanted = CARDS * PROCESSES_PER_CARD
    while (found := _get(port).count(b"\ngpu_pod_memory_used_bytes{")) != wanted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{found} of {wanted} processes are attributed after {_START_SECONDS:.0f} s")
        time.sleep(0.2)


def _scraped(port: int) -> list[float]:
    """Milliseconds of each scrape, connection included, as Prometheus and the watchdog make them."""
    figures = []
    for _ in range(SCRAPES):
        began = time.perf_counter()
        _get(port)
        figures.append((time.perf_counter() - began) * 1000)
        time.sleep(PAUSE_SECONDS)
    return figures


def _get(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read()
    finally:
        connection.close()


def _memory_mib(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{pid}/status has no {field}")


def _cpu_ratio(pid: int) -> float:
    """CPU seconds per second of the process' life: sampling and scrapes together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    lived = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / ticks
    return (int(fields[11]) + int(fields[12])) / ticks / lived


if __name__ == "__main__":
    sys.exit(main())
