"""What the capacity watch counts."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class CapacityMetrics(Protocol):
    """Figures of the capacity watch; amounts come in as MiB and leave as bytes."""

    def asserted(self, node: str, outcome: str) -> None:
        """One decision about `node` was carried out; `outcome` is one of `services.capacity.OUTCOMES`."""
        ...

    def advertised(self, node: str, advertised_mib: int | None) -> None:
        """What `node` shows now; None where it shows nothing (any more)."""
        ...

    def succeeded(self, at: datetime) -> None:
        """Every node was seen and is as declared, at this instant."""
        ...
