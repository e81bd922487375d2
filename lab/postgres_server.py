"""A real PostgreSQL on loopback, for tests and benchmarks: its own folder, ends with its owner.

PostgreSQL refuses to run as root. Where the tests do, it runs as `nobody`, in a folder below the
system's temporary one, because the caller's own is closed to others.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.ports import free_ports
from lab.programs import Program, require_program
from lab.server_process import ServerProcess

START_BOUND_SECONDS = 60.0
STOP_BOUND_SECONDS = 30.0
USER = "gpumem"
_UNPRIVILEGED = "nobody"


@dataclass
class PostgresServer:
    """One server; `start` again after `stop` or `kill` finds what was committed (unless `durable` is off)."""

    folder: Path
    port: int
    durable: bool = True
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    _process: ServerProcess | None = field(default=None, repr=False)
    _program: Program | None = field(default=None, repr=False)

    def url(self, database: str = "postgres") -> str:
        """Where it listens, as SQLAlchemy wants it."""
        return f"postgresql+psycopg://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Starts it and waits until it answers.

        Raises:
            LabError: there is no PostgreSQL, or it does not come up.
        """
        self._program = self._program or self._reachable(require_program("postgres"))
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)  # of one that was killed
        if not (self.folder / "data" / "PG_VERSION").is_file():
            self._initialise()
        command = [str(self._program.path), "-D", str(self.folder / "data"), "-p", str(self.port)]
        command += ["-h", "127.0.0.1", "-k", "", "-c", "max_connections=100", "-c", "log_min_messages=error"]
        command += ["-c", f"fsync={'on' if self.durable else 'off'}"]
        self._process = ServerProcess(
            f"postgres on port {self.port}", self.folder / "postgres.log", START_BOUND_SECONDS, STOP_BOUND_SECONDS
        )
        self._process.start(command, self.is_up, **self._as_nobody(self._program))

    def stop(self) -> None:
        """Ends it as an operator would, without waiting for clients."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Ends it at once; its children see that and end, too."""
        self._end(signal.SIGQUIT)

    def _initialise(self) -> None:
        program = self._reachable(require_program("initdb"))
        self.folder.mkdir(parents=True, exist_ok=True)
        password_file = self.folder / "password"
        password_file.write_text(self.password, encoding="utf-8")
        if os.geteuid() == 0:
            owner = pwd.getpwnam(_UNPRIVILEGED)
            for path in (self.folder, password_file):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        command = [str(program.path), "-D", str(self.folder / "data"), "-U", USER, "-A", "scram-sha-256"]
        command += ["--pwfile", str(password_file), "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        answer = subprocess.run(command, capture_output=True, text=True, errors="replace", **self._as_nobody(program))
        if answer.returncode != 0:
            raise LabError(f"initdb in {self.folder} failed: {(answer.stdout + answer.stderr)[-500:]}")

    def _reachable(self, program: Program) -> Program:
        """The program where the server's user can read it; an unpacked one may lie below root's own folder."""
        if os.geteuid() != 0 or all(parent.stat().st_mode & stat.S_IXOTH for parent in program.path.parents):
            return program
        root = next(parent for parent in program.path.parents if parent.name == "usr").parent
        copy = self.folder / "program"
        if not copy.is_dir():
            shutil.copytree(root, copy, symlinks=True)
            copy.chmod(0o755)
        env = {name: value.replace(str(root), str(copy)) for name, value in program.env.items()}
        return Program(copy / program.path.relative_to(root), program.version, env)

    def _as_nobody(self, program: Program) -> dict[str, Any]:
        options: dict[str, Any] = {"cwd": self.folder, "env": {**os.environ, **program.env}}
        if os.geteuid() == 0:
            owner = pwd.getpwnam(_UNPRIVILEGED)
            options |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        return options

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.end(how)

    def is_up(self) -> bool:
        """Whether it takes connections: the postmaster writes so into the last line of its lock file."""
        with contextlib.suppress(OSError):
            lines = (self.folder / "data" / "postmaster.pid").read_text(errors="replace").splitlines()
            return bool(lines) and lines[-1].strip() == "ready"
        return False


@contextlib.contextmanager
def postgres_server(*, durable: bool = True) -> Iterator[PostgresServer]:
    """One that is up, and gone afterwards, folder included."""
    folder = Path(tempfile.mkdtemp(prefix="gpumem-postgres-"))
    server = PostgresServer(folder, free_ports(1)[0], durable)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
