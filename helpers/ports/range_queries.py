"""A store of past series, as recommendation and replay ask it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class RangeQueries(Protocol):
    """Prometheus's range queries."""

    def query_range(self, query: str, start: datetime, end: datetime, step_seconds: int) -> str:
        """The answer's text (JSON, a matrix). Raises DependencyError where there is none."""
        ...
