"""The programs of a container runtime, from this machine or the distribution's packages."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.programs import NoProgram, find_program

CNI_PLUGINS = ("bridge", "host-local", "loopback")
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_LOADERS = (b"/ld-linux", b"/ld-musl", b"/ld64.so")


@dataclass(frozen=True)
class Software:
    """Where each program lies; `cni` is the plugins' folder, `containerd`'s own has its shim and `ctr`."""

    containerd: Path
    runc: Path
    cni: Path
    busybox: Path


def find_software(progress: Callable[[str], None] = lambda _: None) -> Software | NoProgram:
    """All of them, downloaded where they are missing; else the first that cannot be had, and why."""
    found: dict[str, Path] = {}
    for name, here in (("containerd", None), ("runc", None), ("host-local", _cni()), ("busybox", _busybox())):
        if here is not None:
            found[name] = here
            continue
        program = find_program(name, progress)
        if isinstance(program, NoProgram):
            return program
        found[name] = program.path
    return Software(found["containerd"], found["runc"], found["host-local"].parent, found["busybox"])


def _cni() -> Path | None:
    """Plugins are on nobody's PATH, so the folders that distributions use are looked into."""
    for folder in CNI_FOLDERS:
        if all((folder / plugin).is_file() for plugin in CNI_PLUGINS):
            return folder / "host-local"
    return None


def _busybox() -> Path | None:
    """An image holds no libraries, so only one that needs no loader will do."""
    found = shutil.which("busybox")
    if found is None or any(loader in Path(found).read_bytes() for loader in _LOADERS):
        return None
    return Path(found)
