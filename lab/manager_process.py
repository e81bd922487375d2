"""A GPU manager as a process of its own, without a cluster: the real app and database, the engine a folder.

python -m lab.manager_process DOCUMENT    a JSON file: settings, url, address, tokens, folder
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from helpers.apps.manager import Outside, RunSettings, run_manager
from helpers.domain.jobs.settings import ManagerSettings
from lab.folder_engine import FolderEngine
from lab.ports import free_ports
from lab.server_process import ServerProcess

ROOT = Path(__file__).parents[1]
TOKEN = "a-token-that-is-long-enough"  # noqa: S105 - of a process on loopback that ends with its test
START_BOUND_SECONDS = 60.0
STOP_BOUND_SECONDS = 60.0
Command = Callable[["ManagerProcess"], Sequence[str]]


class ManagerProcess:
    """One that can be killed and started again: the database and the folder stay.

    `command`: another than the one above, from the process that it is for.
    """

    def __init__(self, folder: Path, url: str, settings: ManagerSettings, command: Command | None = None) -> None:
        self.folder = folder
        self.port = free_ports(1)[0]
        self.tokens = folder / "tokens"
        self.tokens.write_text(f"{TOKEN} alice {','.join(one.name for one in settings.projects)}\n", encoding="utf-8")
        self.tokens.chmod(0o600)
        document = folder / "process.json"
        told = {"url": url, "address": self.address, "tokens": str(self.tokens), "folder": str(folder)}
        document.write_text(json.dumps(told | {"settings": settings.model_dump(mode="json")}), encoding="utf-8")
        own = [sys.executable, "-m", "lab.manager_process", str(document)]
        self._command = list(command(self)) if command is not None else own
        self._process = ServerProcess("the manager", folder / "manager.log", START_BOUND_SECONDS, STOP_BOUND_SECONDS)

    @property
    def address(self) -> str:
        """HOST:PORT of its API."""
        return f"127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """Where its API is."""
        return f"http://{self.address}"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it said."""
        return (self.folder / "manager.log").read_text(encoding="utf-8")

    def start(self) -> None:
        """Starts it, and waits until it is ready.

        Raises:
            LabError: it ends, or does not come up.
        """
        self._process.start(self._command, self.is_ready, cwd=ROOT)

    def is_ready(self) -> bool:
        """Whether it says so."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        """As a power cut would."""
        self._process.end(signal.SIGKILL)

    def stop(self) -> int:
        """As Kubernetes would; its exit code."""
        return self._process.end(signal.SIGTERM)

    def made(self) -> list[str]:
        """Every job whose objects were made, once for each time."""
        file = self.folder / "made"
        return file.read_text(encoding="utf-8").split() if file.exists() else []

    def objects(self) -> set[str]:
        """The jobs that have objects."""
        return {path.name for path in (self.folder / "objects").iterdir()}


@contextlib.contextmanager
def manager_process(folder: Path, url: str, settings: ManagerSettings) -> Iterator[ManagerProcess]:
    """One that is up, and gone afterwards."""
    process = ManagerProcess(folder, url, settings)
    process.start()
    try:
        yield process
    finally:
        process.stop()


def main(document: str) -> None:
    """Runs it."""
    told = json.loads(Path(document).read_text(encoding="utf-8"))
    settings = ManagerSettings.model_validate_json(json.dumps(told["settings"]))
    run = RunSettings(address=told["address"], tokens=Path(told["tokens"]), database_url=told["url"])
    run_manager(settings, run, Outside(engine=FolderEngine(Path(told["folder"]))))


if __name__ == "__main__":
    main(sys.argv[1])
