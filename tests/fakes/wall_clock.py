"""A process whose wall clock the test moves: what an NTP step or a resumed machine does to it."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


@dataclass(frozen=True)
class WallClock:
    """The clock of every process that has `environment`."""

    file: Path
    library: Path

    @property
    def environment(self) -> dict[str, str]:
        """What puts a process on this clock."""
        return {"LD_PRELOAD": str(self.library), "GPUMEM_TEST_CLOCK": str(self.file)}

    def jump(self, offset_seconds: int) -> None:
        """The clock is off by so much from now on; 0: right again."""
        with self.file.open("r+b") as file:  # in place: the processes have it mapped
            file.write(struct.pack("=q", offset_seconds))


def wall_clock(folder: Path) -> WallClock | str:
    """A clock that is right to begin with, or why there is none here."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return "there is no C compiler (gcc or cc) to build the clock with"
    clock = WallClock(folder / "clock", folder / "wall_clock.so")
    clock.file.write_bytes(struct.pack("=q", 0))
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-o",
        str(clock.library),
        str(SOURCE),
    ]
    done = subprocess.run([*command, "-ldl"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return clock
