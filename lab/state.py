"""Where a lab lives on disk, and what it remembers between commands.

``.lab/<name>/`` holds everything: ``state.json``, ``kubeconfig``, ``pki/``, ``etcd/``, ``logs/``,
``usage.json``. After ``down`` only ``logs/`` and the lock file stay. Programs' temporary files go to
a short folder under the system's own: a socket's path may have 107 bytes, and a lab may live deeper.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from lab.errors import LabError, LabInputError
from lab.processes import LabProcess

FOLDER = ".lab"
DEFAULT_NAME = "default"
PROJECT_MARKS = (FOLDER, "gpumem.yaml", "cdktf.json")
LAB_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
UNKNOWN_PROVIDERS = "unknown"

NodeKind = Literal["hollow", "bare"]


@dataclass(frozen=True)
class LabNode:
    """A simulated node.

    Attributes:
        name: The Node object's name.
        labels: Labels besides those that every kubelet sets itself.
        extended_resources: Whole numbers by resource name, such as ``{"nvidia.com/gpu": 8}``.
        kind: ``hollow`` is a real kubelet on a fake runtime (containers never end, log or answer);
            ``bare`` is a Node object whose pods live through ``lab.pod_life``.
    """

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    extended_resources: dict[str, int] = field(default_factory=dict)
    kind: NodeKind = "hollow"


@dataclass
class LabState:
    """What ``state.json`` holds. `phase` is ``starting`` until everything answered once."""

    name: str
    phase: Literal["starting", "ready"] = "starting"
    ports: dict[str, int] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    processes: list[LabProcess] = field(default_factory=list)
    nodes: list[LabNode] = field(default_factory=list)
    providers: str = UNKNOWN_PROVIDERS
    hollow_nodes_started: bool = False

    def process(self, name: str) -> LabProcess | None:
        """The remembered process of that role, running or not."""
        return next((process for process in self.processes if process.name == name), None)

    def node(self, name: str) -> LabNode:
        """The node of that name.

        Raises:
            LabInputError: The lab has no such node.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(sorted(node.name for node in self.nodes)) or "none"
        raise LabInputError(f"lab {self.name!r} has no node {name!r}; it has: {known}")


class LabPaths:
    """The files of one lab."""

    def __init__(self, root: Path | None, name: str) -> None:
        if LAB_NAME.fullmatch(name) is None:
            raise LabInputError(f"lab name {name!r}: at most 40 lower-case letters, digits and inner dashes")
        self.name = name
        self.dir = ((root or project_root()) / FOLDER / name).resolve()
        self.kubeconfig = self.dir / "kubeconfig"
        self.logs = self.dir / "logs"
        self.pki = self.dir / "pki"
        self.etcd = self.dir / "etcd"
        self.identities = self.dir / "identities"
        self.state = self.dir / "state.json"
        self.lock = self.dir / "lock"
        digest = hashlib.sha256(os.fsencode(self.dir)).hexdigest()[:12]
        self.scratch = Path(tempfile.gettempdir()) / f"gpumem-lab-{digest}"

    @classmethod
    def of_dir(cls, lab_dir: Path) -> LabPaths:
        """The same from the lab's own folder."""
        return cls(lab_dir.parent.parent, lab_dir.name)

    def clean(self) -> None:
        """Removes everything but the logs and the lock."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        if not self.dir.is_dir():
            return
        for entry in self.dir.iterdir():
            if entry in {self.logs, self.lock}:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one command at a time changes a lab; the second waits."""
        self.dir.mkdir(parents=True, exist_ok=True)
        with self.lock.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def project_root() -> Path:
    """The nearest folder upwards that looks like a project, else the current one."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if any((folder / mark).exists() for mark in PROJECT_MARKS):
            return folder
    return here


def write_atomically(path: Path, document: object) -> None:
    """Writes JSON so that a reader sees the old or the new text, never half of one."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(document, indent=1))
    scratch.replace(path)


def save(paths: LabPaths, state: LabState) -> None:
    """Remembers `state`."""
    write_atomically(paths.state, asdict(state))


def load(paths: LabPaths) -> LabState | None:
    """The remembered state; None where there is none.

    Raises:
        LabError: The file is there and cannot be read.
    """
    try:
        document: dict[str, Any] = json.loads(paths.state.read_text())
        document["processes"] = [LabProcess(**each) for each in document["processes"]]
        document["nodes"] = [LabNode(**each) for each in document["nodes"]]
        return LabState(**document)
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise LabError(f"{paths.state} is damaged ({error}): `gpumem lab down --lab {paths.name}` clears it") from error
