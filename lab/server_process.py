"""A server of the lab as a child process: started, waited for until it answers, ended by a signal."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import LabError

_TAIL_CHARACTERS = 2000


@dataclass
class ServerProcess:
    """One server at a time; what it says goes to the end of `log_file`."""

    name: str
    log_file: Path
    start_bound_seconds: float
    stop_bound_seconds: float
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """The child's process; 0 where there is none."""
        return self._child.pid if self._child is not None else 0

    def start(self, command: Sequence[str], is_up: Callable[[], bool], **options: Any) -> None:
        """Starts `command` (`options` are Popen's) and waits until `is_up`.

        Raises:
            LabError: it ends before, or takes too long; with its last words.
        """
        with self.log_file.open("ab") as log:
            self._child = subprocess.Popen(command, stdout=log, stderr=log, **options)
        deadline = time.monotonic() + self.start_bound_seconds
        while not is_up():
            if self._child.poll() is not None or time.monotonic() > deadline:
                text = self.log_file.read_text(errors="replace")[-_TAIL_CHARACTERS:]
                raise LabError(f"{self.name} did not come up: {text}")
            time.sleep(0.02)

    def end(self, how: signal.Signals) -> int:
        """Ends it, by SIGKILL if it does not follow; its exit code, 0 where there is none."""
        child, self._child = self._child, None
        if child is None:
            return 0
        child.send_signal(how)
        try:
            return child.wait(self.stop_bound_seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()
