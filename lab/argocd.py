"""Argo CD's sync engine on the lab: what a sync of an Application does with a folder, without Argo CD around it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.toolchain import TOOLS, ToolModule, built_module, ensure_module

MODULE = ToolModule(
    "Argo CD's sync engine",
    TOOLS / "argocd_sync",
    {"argocd-sync": "gpumem.io/lab/tools/argocd-sync"},
    sources=("main.go",),
)
_GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class SyncedObject:
    """What became of one object. `hook_phase` says it of a hook, and of what was waited for."""

    kind: str
    namespace: str
    name: str
    status: str
    hook_phase: str
    message: str


@dataclass(frozen=True)
class Sync:
    """One sync as it ended. `phase`: Succeeded, Failed or Error, as Argo CD shows it."""

    phase: str
    message: str
    objects: tuple[SyncedObject, ...]


def ensure_argocd_sync(progress: Callable[[str], None]) -> Path:
    """The program, built where the cache has none.

    Raises:
        LabError: There is no Go, or the build failed.
    """
    return ensure_module(MODULE, progress)["argocd-sync"]


def built_argocd_sync() -> Path | None:
    """The program, where it has been built."""
    built = built_module(MODULE)
    return None if built is None else built["argocd-sync"]


def sync_folder(program: Path, kubeconfig: Path, folder: Path, bound_seconds: float) -> Sync:
    """One sync of everything below `folder`.

    Raises:
        LabError: It does not end by itself.
    """
    command = [str(program), "--kubeconfig", str(kubeconfig), f"--timeout={bound_seconds:.0f}s", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=bound_seconds + _GRACE_SECONDS)
    if ended.returncode:
        raise LabError(f"the sync did not end by itself: {ended.stderr.strip()} {ended.stdout}")
    said = json.loads(ended.stdout)
    return Sync(said["phase"], said["message"], tuple(SyncedObject(**one) for one in said["objects"]))
