"""Compiles the stand-in once, into the tool cache, keyed by its source."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from lab.errors import LabError
from lab.toolchain import cache_root

SOURCE = Path(__file__).with_name("fake_nvml.c")
LIBRARY = "libnvidia-ml.so.1"
FLAGS = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11", f"-Wl,-soname,{LIBRARY}")


def ensure_library() -> Path:
    """The folder that holds `libnvidia-ml.so.1`: what LD_LIBRARY_PATH is to be set to.

    Raises:
        LabError: There is no C compiler, or it refused the source.
    """
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]
    folder = cache_root() / "fake-nvml" / digest
    if not (folder / LIBRARY).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{digest}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / LIBRARY).is_file():
                _compile(folder)
    return folder


def _compile(folder: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise LabError(
            "the stand-in for NVIDIA's library is compiled from C, and PATH has neither `gcc` nor `cc`: "
            "install a C compiler (on Debian: `apt-get install gcc libc6-dev`)"
        )
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        target = Path(scratch) / LIBRARY
        done = subprocess.run([compiler, *FLAGS, "-o", str(target), str(SOURCE)], capture_output=True, text=True)
        if done.returncode != 0:
            raise LabError(f"{compiler} refused {SOURCE} (exit {done.returncode}):\n{done.stderr.strip()}")
        target.replace(folder / LIBRARY)
