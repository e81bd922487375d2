"""The benchmark's rate, from stamps without fractions of a second."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bench.dra_throughput import bound_per_second

FIRST_AT = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def at(*counts: int) -> list[datetime]:
    """So many bindings in each second, one second after the other."""
    return [FIRST_AT + timedelta(seconds=second) for second, count in enumerate(counts) for _ in range(count)]


@pytest.mark.parametrize(
    ("counts", "per_second"),
    [
        ((10, 100, 100, 7), 100),  # of the first and the last second only a part belongs to it
        ((10, 100, 0, 50, 1), 50),  # a second of nothing counts
        ((30, 30), 30),
        ((40,), 40),
    ],
)
def test_only_whole_seconds_count(counts: tuple[int, ...], per_second: float) -> None:
    assert bound_per_second(at(*counts)) == per_second
