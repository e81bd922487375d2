"""The exporter as a process: real pynvml on the stand-in, real HTTP, real signals."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from helpers.apps.exporter.__main__ import main
from lab.fake_nvml.build import ensure_library
from lab.fake_nvml.host_proc import HostProcess, HostProcTree
from lab.fake_nvml.state import FOR_EVER, STATE_VARIABLE, FakeDriver, FakeGpu, FakeProcess
from lab.waiting import BOUND_SECONDS, wait_for
from tests.fakes.telemetry import pod

GIB = 1024**3
ROOT = Path(__file__).parents[2]
OLLAMA = ("--tenant", "ollama=unit:ollama.service,6000")

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="the stand-in for NVML is compiled with gcc")


@dataclass
class Machine:
    """A machine outside Kubernetes: its driver's answers and its processes."""

    folder: Path
    arguments: list[str] = field(default_factory=list)

    def show(self, *gpus: FakeGpu, delays: dict[tuple[str, str], int] | None = None) -> None:
        FakeDriver(gpus, delays=delays or {}).write(self.folder / "state")

    def command(self, *more: str) -> list[str]:
        base = [
            sys.executable,
            "-m",
            "helpers.apps.exporter",
            "--no-kubernetes",
            "--host-proc",
            str(self.folder / "proc"),
        ]
        return [*base, *OLLAMA, *self.arguments, *more]

    def environment(self) -> dict[str, str]:
        known = {"LD_LIBRARY_PATH": str(ensure_library()), STATE_VARIABLE: str(self.folder / "state")}
        return os.environ | known | {"PYTHONPATH": str(ROOT)}

    def once(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command("--once"),
            env=self.environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=BOUND_SECONDS,
        )

    @contextmanager
    def running(self, *more: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """The process, serving; its port."""
        log = self.folder / "log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                self.command("--listen-port", "0", *more), env=self.environment(), cwd=ROOT, stderr=stderr
            )
        try:
            started = wait_for(lambda: re.search(r'"event": "started".*"port": (\d+)', log.read_text()))
            assert started is not None
            yield process, int(started[1])
        finally:
            process.kill()
            process.wait()


class Answers:
    """A server on loopback with one body a path."""

    def __init__(self) -> None:
        self.bodies: dict[str, str] = {}
        bodies = self.bodies

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = bodies[self.path].encode()
                self.send_response_only(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Answers:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.show(FakeGpu("GPU-0", 12 * GIB, 5 * GIB, GIB // 2, processes=(FakeProcess(10, 4 * GIB),)))
    HostProcTree(tmp_path / "proc").write([HostProcess(10, "0::/system.slice/ollama.service\n", "ollama")])
    return made


def get(port: int, path: str = "/metrics") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_one_round_is_printed_for_a_machine_outside_kubernetes(machine: Machine) -> None:
    done = machine.once()
    assert (done.returncode, done.stderr) == (0, "")
    who = 'namespace="",pod="",container="ollama"'
    assert f'gpu_pod_memory_used_bytes{{{who},gpu="0",uuid="GPU-0"}} {4 * GIB}\n' in done.stdout
    assert f"gpumem_tenant_budget_bytes{{{who}}} {6000 * 1024**2}\n" in done.stdout
    assert f'gpu_memory_unattributed_bytes{{gpu="0",uuid="GPU-0"}} {GIB}\n' in done.stdout


def test_one_round_with_a_failed_card_says_no(machine: Machine) -> None:
    machine.show(FakeGpu("GPU-0", 12 * GIB, processes=(FakeProcess(10, None),)))
    done = machine.once()
    assert done.returncode == 1
    assert 'gpu_sample_up{gpu="0",uuid="GPU-0"} 0\n' in done.stdout


def test_one_round_without_a_driver_is_an_unreachable_dependency(machine: Machine) -> None:
    (machine.folder / "state").unlink()
    done = machine.once()
    assert done.returncode == 3
    assert "gpu_telemetry_up 0\n" in done.stdout
    assert json.loads(done.stderr.splitlines()[0])["reason"] == "driver"


def test_it_serves_follows_changes_and_stops_cleanly_at_sigterm(machine: Machine) -> None:
    with machine.running("--interval-seconds", "0.1") as (process, port):
        wait_for(lambda: f'gpu_memory_used_bytes{{gpu="0",uuid="GPU-0"}} {5 * GIB}\n' in get(port)[1])
        machine.show(FakeGpu("GPU-0", 12 * GIB, 9 * GIB))
        wait_for(lambda: f'gpu_memory_used_bytes{{gpu="0",uuid="GPU-0"}} {9 * GIB}\n' in get(port)[1])
        assert get(port, "/healthz") == (200, "ok\n")
        assert get(port, "/else")[0] == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(BOUND_SECONDS) == 0
    assert '"event": "stopped"' in (machine.folder / "log").read_text()


def test_a_hung_card_neither_stops_the_scrapes_nor_the_end(machine: Machine) -> None:
    other = FakeGpu("GPU-1", 12 * GIB, GIB)
    with machine.running("--interval-seconds", "0.1", "--nvml-deadline-seconds", "0.5") as (process, port):
        machine.show(FakeGpu("GPU-0", 12 * GIB), other, delays={("nvmlDeviceGetMemoryInfo_v2", "0"): FOR_EVER})
        wait_for(lambda: 'gpu_sample_up{gpu="0",uuid="GPU-0"} 0\n' in get(port)[1])
        wait_for(lambda: f'gpu_memory_used_bytes{{gpu="1",uuid="GPU-1"}} {GIB}\n' in get(port)[1])
        text = get(port)[1]
        assert 'gpu_memory_free_bytes{gpu="0"' not in text, "absent, and not zero"
        assert re.search(r'gpu_sample_failures_total\{gpu="0",reason="hung"\} [1-9]', text)
        process.send_signal(signal.SIGTERM)
        assert process.wait(BOUND_SECONDS) == 0, "a thread that hangs in the driver does not keep the process"


def test_an_installed_dcgm_exporter_is_read_instead_of_the_driver(machine: Machine) -> None:
    with Answers() as answers:
        answers.bodies["/pods"] = json.dumps({"items": [pod(1, limit="4k")]})
        answers.bodies["/metrics"] = (
            'DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-0"} 4000\n'
            'DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-0"} 11000\n'
            'DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-0",namespace="ns",pod="pod-1",container="main"} 3000\n'
        )
        (machine.folder / "state").unlink()  # no driver: nothing may ask it
        command = [sys.executable, "-m", "helpers.apps.exporter", "--once", "--source", "dcgm"]
        command += ["--dcgm-url", f"{answers.url}/metrics", "--pods-source", "kubelet", "--pods-url", answers.url]
        done = subprocess.run(
            command, env=machine.environment(), cwd=ROOT, capture_output=True, text=True, timeout=BOUND_SECONDS
        )
    assert (done.returncode, done.stderr) == (0, "")
    who = 'namespace="ns",pod="pod-1",container="main"'
    assert f'gpu_pod_memory_used_bytes{{{who},gpu="0",uuid="GPU-0"}} {3000 * 1024**2}\n' in done.stdout
    assert f"gpumem_tenant_budget_bytes{{{who}}} {4000 * 1024**2}\n" in done.stdout


def test_an_address_in_use_is_bad_input_with_its_name(machine: Machine) -> None:
    with machine.running() as (_, port):
        done = subprocess.run(
            machine.command("--listen-port", str(port)),
            env=machine.environment(), cwd=ROOT, capture_output=True, text=True, timeout=BOUND_SECONDS,
        )  # fmt: skip
    assert done.returncode == 2
    assert f"listen 127.0.0.1:{port}: Address already in use" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "node_name is needed"),
        (["--pods-source", "kubelet"], "pods_url is needed"),
        (["--node-name", "n", "--tenant", "a=comm:b"], "outside Kubernetes"),
        (["--no-kubernetes", "--tenant", "a=comm:b", "--tenant", "a=comm:c"], "each name may stand once"),
        (["--no-kubernetes", "--tenant", "Not_A_Label=comm:b"], "must be a DNS label"),
        (["--no-kubernetes", "--tenant", "a=comm:sixteen-letters-x"], "15"),
        (["--no-kubernetes", "--interval-seconds", "0"], "interval_seconds"),
        (["--no-kubernetes", "--source", "dcgm"], "use nvml"),
        (["--node-name", "n"], "KUBERNETES_SERVICE_HOST is not set"),
    ],
)
def test_settings_that_contradict_each_other_are_bad_input(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert main(["--once", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_client_library_of_kubernetes_is_never_loaded() -> None:
    """It alone would take most of the 60 MiB that the exporter may use."""
    probe = "import sys, helpers.apps.exporter.__main__, helpers.adapters.nvml.gpus; print('kubernetes' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, timeout=BOUND_SECONDS
    )
    assert done.stdout == "False\n", done.stderr
