"""A container runtime that knows CDI: the distribution's containerd 1.6 does not, so a newer one is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lab.toolchain import TOOLS, ToolModule, ensure_module

CONTAINERD_VERSION = "v2.3.7"
_PATH = "github.com/containerd/containerd/v2"
MODULE = ToolModule(
    f"containerd {CONTAINERD_VERSION}",
    TOOLS / "containerd",
    {name: f"{_PATH}/cmd/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
    f"-s -w -X {_PATH}/version.Version={CONTAINERD_VERSION}",
)


def containerd_with_cdi(progress: Callable[[str], None] = lambda _: None) -> Path:
    """The program, built first where it is missing; its shim and ctr lie beside it.

    Raises:
        LabError: Go is missing or too old, or the build failed.
    """
    return ensure_module(MODULE, progress)["containerd"]
