"""A manager as a process of its own: the real app, on a real database, with an engine that is a folder.

python -m tests.manager.process DOCUMENT    a JSON file: url, address, tokens, folder, identity
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from helpers.apps.manager import Outside, RunSettings, run_manager
from lab.ports import free_ports
from tests.fakes.job_engine import FolderEngine
from tests.fakes.manager import SETTINGS

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-that-is-long-enough"
START_BOUND_SECONDS = 60.0


class ManagerProcess:
    """One that can be killed and started again: the database and the folder stay."""

    def __init__(self, folder: Path, url: str, command: Sequence[str] = ()) -> None:
        self.folder = folder
        self.port = free_ports(1)[0]
        tokens = folder / "tokens"
        tokens.write_text(f"{TOKEN} alice vision,text\n", encoding="utf-8")
        tokens.chmod(0o600)
        self._document = folder / "process.json"
        address = f"127.0.0.1:{self.port}"
        told = {"url": url, "address": address, "tokens": str(tokens), "folder": str(folder)}
        self._document.write_text(json.dumps(told), encoding="utf-8")
        self._command = list(command) or [sys.executable, "-m", "tests.manager.process", str(self._document)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        """Where it is served."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it said."""
        return (self.folder / "manager.log").read_text(encoding="utf-8")

    def start(self) -> None:
        """Starts it, and waits until it is ready."""
        with (self.folder / "manager.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=log, stderr=log)
        until_seconds = time.monotonic() + START_BOUND_SECONDS
        while time.monotonic() < until_seconds:
            assert self._process.poll() is None, self.log[-2000:]
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.base_url}/readyz").status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"the manager did not come up: {self.log[-2000:]}")

    def kill(self) -> None:
        """As a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As Kubernetes would; its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(how)
        return process.wait(60)

    def made(self) -> list[str]:
        """Every job whose objects were made, once for each time."""
        file = self.folder / "made"
        return file.read_text(encoding="utf-8").split() if file.exists() else []

    def objects(self) -> set[str]:
        """The jobs that have objects."""
        return {path.name for path in (self.folder / "objects").iterdir()}


@contextlib.contextmanager
def manager_process(folder: Path, url: str) -> Iterator[ManagerProcess]:
    """One that is up, and gone afterwards."""
    process = ManagerProcess(folder, url)
    process.start()
    try:
        yield process
    finally:
        process.stop()


def main(document: str) -> None:
    """Runs it."""
    told = json.loads(Path(document).read_text(encoding="utf-8"))
    run = RunSettings(address=told["address"], tokens=Path(told["tokens"]), database_url=told["url"])
    run_manager(SETTINGS, run, Outside(engine=FolderEngine(Path(told["folder"]))))


if __name__ == "__main__":
    main(sys.argv[1])
