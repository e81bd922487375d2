"""Files that survive a crash whole: written beside, flushed to the disk, then put in place by one rename."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_durably(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replaces `path`, which has one writer; when it returns, the content and its name are on the disk.

    Raises:
        OSError: It cannot be written; the old file is then untouched.
    """
    # Always the same name: what a crash leaves of it is written over by the next try.
    scratch = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Puts a folder's names on the disk: a rename or removal counts only then."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
