"""Which one of several equal processes may act."""

from __future__ import annotations

from typing import Protocol


class Leadership(Protocol):
    """Answers for this process, now. Asked before every act: the answer may change at any time."""

    def leads(self) -> bool:
        """Whether this process may act; False as soon as that is no longer certain."""
        ...
