"""One process a folder: a lock that the kernel gives back, however its holder ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from helpers.domain.errors import CheckFailed, InputError

_POLL_SECONDS = 0.1


@contextlib.contextmanager
def folder_locked(folder: Path, *, wait_seconds: float) -> Iterator[None]:
    """Holds `folder`, which is made where it is not there.

    Args:
        folder: What only one process may use.
        wait_seconds: How long to wait for another one's end: pods of two versions overlap for a moment.

    Raises:
        CheckFailed: Another process holds it, and is named.
        InputError: The folder cannot be made or written.
    """
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a folder that can be written") from error
    try:
        _take(descriptor, folder, time.monotonic() + wait_seconds)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path, until_seconds: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= until_seconds:
                holder = os.pread(descriptor, 20, 0).decode(errors="replace") or "unknown"
                raise CheckFailed(
                    f"another agent (process {holder}) has {folder}: only one may publish and prepare on a node. "
                    "Stop it, or give this one a folder of its own if it is for another kubelet."
                ) from error
            time.sleep(_POLL_SECONDS)
        else:
            return
