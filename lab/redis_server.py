"""A real redis-server on loopback, for tests and the lab: its own folder, append-only file, ends with its owner."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.ports import free_ports
from lab.programs import Program, require_program
from lab.server_process import ServerProcess

START_BOUND_SECONDS = 15.0
STOP_BOUND_SECONDS = 10.0


@dataclass
class RedisServer:
    """One server; `start` again after `stop` or `kill` finds what was acknowledged (appendfsync always)."""

    folder: Path
    port: int
    durable: bool = True
    replica_of: int | None = None
    """The port of the one that it copies; it stays a replica until somebody promotes it."""
    _process: ServerProcess | None = field(default=None, repr=False)
    _program: Program | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Starts it and waits until it answers.

        Raises:
            LabError: there is no redis-server, or it does not come up.
        """
        self._program = self._program or require_program("redis-server")
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [str(self._program.path), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no"]
        command += ["--appendonly", "yes" if self.durable else "no", "--appendfsync", "always"]
        command += ["--repl-diskless-sync-delay", "0"]  # a replica is served at once, and not after 5 s
        command += [] if self.replica_of is None else ["--replicaof", "127.0.0.1", str(self.replica_of)]
        environment = {**os.environ, **self._program.env}
        self._process = ServerProcess(
            f"redis-server on port {self.port}", self.folder / "redis.log", START_BOUND_SECONDS, STOP_BOUND_SECONDS
        )
        self._process.start(command, self._answers, env=environment, cwd=self.folder)

    def stop(self) -> None:
        """Ends it as an operator would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.end(how)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextmanager
def redis_server(folder: Path, *, durable: bool = True, replica_of: int | None = None) -> Iterator[RedisServer]:
    """One that is up, and gone afterwards."""
    server = RedisServer(folder, free_ports(1)[0], durable, replica_of)
    server.start()
    try:
        yield server
    finally:
        server.stop()
