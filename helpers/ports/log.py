"""Structured logging as services see it."""

from __future__ import annotations

from typing import Protocol


class Log(Protocol):
    """One JSON object a line on stderr: `event` is a stable snake_case name that tests assert on."""

    def info(self, event: str, **fields: object) -> None:
        """Something happened as it should."""
        ...

    def warning(self, event: str, **fields: object) -> None:
        """Something needs a look; the work goes on."""
        ...

    def error(self, event: str, **fields: object) -> None:
        """Something failed."""
        ...
