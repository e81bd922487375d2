"""`ports.dra_agent.CdiFiles`: one specification a claim, in the folder that container runtimes watch."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from helpers.adapters.durable_file import sync_folder, write_durably
from helpers.domain.dra import naming
from helpers.domain.dra.prepared import PreparedClaim, cdi_spec, check_uid, from_cdi_spec
from helpers.domain.errors import CheckFailed

_PREFIX = f"{naming.DRIVER}-claim_"
# Runtimes that drop their rights read it, too; there is no secret in it.
_MODE = 0o644


class CdiFolder:
    """Files of other vendors in the same folder are left alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, claim: PreparedClaim) -> None:
        """Puts the claim's file in place. Raises OSError where it cannot be written."""
        self._folder.mkdir(parents=True, exist_ok=True)  # it is on a tmpfs and goes with a reboot
        content = json.dumps(cdi_spec(claim), indent=1).encode()
        path = self._path(claim.uid)
        with contextlib.suppress(OSError):
            if path.read_bytes() == content:
                return
        write_durably(path, content, _MODE)

    def remove(self, uid: str) -> None:
        """Takes the file away; nothing happens where there is none."""
        path = self._path(uid)
        try:
            path.unlink()
        except FileNotFoundError:
            return
        sync_folder(self._folder)

    def found(self) -> tuple[tuple[PreparedClaim, ...], tuple[str, ...]]:
        """What the files there tell, and which of ours cannot be read, with the reason."""
        claims, unreadable = [], []
        for path in sorted(self._folder.glob(f"{_PREFIX}*.json")):
            try:
                claims.append(from_cdi_spec(json.loads(path.read_bytes())))
            except (OSError, ValueError, CheckFailed) as error:
                unreadable.append(f"{path}: {error}")
        return tuple(claims), tuple(unreadable)

    def _path(self, uid: str) -> Path:
        check_uid(uid)
        return self._folder / f"{_PREFIX}{uid}.json"
