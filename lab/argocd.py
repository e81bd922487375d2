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
class SyncResult:
    """What became of one object. `hook_phase` says it of a hook, and of what was waited for."""

    kind: str
    namespace: str
    name: str
    status: str
    hook_phase: str
    message: str


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


def start_sync(program: Path, kubeconfig: Path, folder: Path, bound_seconds: float) -> subprocess.Popen[str]:
    """One sync of everything below `folder`; `ended_sync` has its outcome."""
    command = [str(program), "--kubeconfig", str(kubeconfig), f"--timeout={bound_seconds:.0f}s", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended_sync(sync: subprocess.Popen[str], bound_seconds: float) -> list[SyncResult]:
    """Every object's outcome, once the sync has ended by itself.

    Raises:
        LabError: It did not.
    """
    try:
        said, errors = sync.communicate(timeout=bound_seconds + _GRACE_SECONDS)
    except subprocess.TimeoutExpired as error:
        sync.kill()
        raise LabError(f"the sync has no end after {bound_seconds:.0f} s") from error
    if sync.returncode:
        raise LabError(f"the sync did not end by itself: {errors.strip()} {said}")
    return [SyncResult(**one) for one in json.loads(said)]
