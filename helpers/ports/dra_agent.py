"""What the node agent works with, besides NVML and the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from helpers.domain.dra.prepared import PreparedClaim
from helpers.domain.errors import CheckFailed


class CheckpointCorrupted(CheckFailed):
    """The checkpoint is there and cannot be trusted; the message says why, and where it was put."""


class Checkpoint(Protocol):
    """What is prepared, on disk; a crash leaves the old or the new state, never half of one."""

    def load(self) -> tuple[PreparedClaim, ...] | None:
        """What was saved; None where nothing ever was.

        Raises:
            CheckpointCorrupted: It cannot be read back exactly; it was moved aside.
        """
        ...

    def save(self, claims: Sequence[PreparedClaim]) -> None:
        """Replaces what was saved; on disk when it returns. Raises OSError where it cannot be written."""
        ...


class CdiFiles(Protocol):
    """The claims' CDI specifications, where container runtimes look for them."""

    def write(self, claim: PreparedClaim) -> None:
        """Puts the claim's file in place. Raises OSError where it cannot be written."""
        ...

    def remove(self, uid: str) -> None:
        """Takes the file away; nothing happens where there is none."""
        ...

    def found(self) -> tuple[tuple[PreparedClaim, ...], tuple[str, ...]]:
        """What the files there tell, and which of ours cannot be read, with the reason."""
        ...


class DraMetrics(Protocol):
    """What a scrape of the agent sees."""

    def published(self, device_count: int, generation: int) -> None:
        """The slice as it stands."""
        ...

    def tainted(self, devices: Sequence[tuple[str, str]]) -> None:
        """`(device, taint)` pairs as they stand."""
        ...

    def standing_back(self, *, value: bool) -> None:
        """Whether NVIDIA's own driver publishes here."""
        ...

    def registered(self, *, value: bool) -> None:
        """Whether the kubelet took the plugin."""
        ...

    def prepared(self, claims: Sequence[PreparedClaim]) -> None:
        """What is prepared now."""
        ...

    def failed(self, what: str) -> None:
        """Counts one error: look, publish, prepare, unprepare, checkpoint, cdi, registration."""
        ...
