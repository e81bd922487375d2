"""Removes what hollow kubelets leave under /tmp: kubemark has these paths compiled in."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

TMP = Path("/tmp")  # noqa: S108 - not our choice
RUNTIME_SOCKETS = "kubelet_remote_*.sock"
KUBELET_LOGS = "kubelet-*.log"


def root_folder_pattern(tmp: Path) -> re.Pattern[str]:
    """Finds the root folders that hollow kubelets made in `tmp` in their logs."""
    return re.compile(rf"Using ({re.escape(str(tmp))}/hollow-kubelet\.\w+) as root dir")


ROOT_FOLDER = root_folder_pattern(TMP)


def remove_leftovers(logs: Iterable[Path]) -> None:
    """Removes root folders and runtime sockets of hollow kubelets.

    Args:
        logs: Logs of kubelets that have ended, all of them: the log names the root folder.
    """
    _remove_stale_sockets()
    for log in logs:
        with contextlib.suppress(FileNotFoundError):
            for folder in ROOT_FOLDER.findall(log.read_text(errors="replace")):
                shutil.rmtree(folder, ignore_errors=True)


def _remove_stale_sockets() -> None:
    left = list(TMP.glob(RUNTIME_SOCKETS))
    # Read after the listing: a socket that was listed and is live is certainly in here.
    live = Path("/proc/net/unix").read_text()
    for socket in left:
        if f" {socket}\n" in live:
            continue
        with contextlib.suppress(OSError):  # another lab's `down` was faster
            if socket.lstat().st_uid == os.geteuid():
                socket.unlink()
