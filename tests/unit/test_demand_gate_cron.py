"""Windows as KEDA's cron reads them, held against what the window says, hour by hour."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from helpers.domain.demand_gates.cron import CronSpan, cron_span, is_always, jumped_over
from helpers.domain.estate.windows import LaneWindow
from helpers.domain.lanes.windows import is_open

BERLIN = "Europe/Berlin"


def window(begin: str, end: str, **fields: Any) -> LaneWindow:
    return LaneWindow.model_validate({"from": begin, "to": end, "time_zone": BERLIN} | fields)


def keda_says(span: CronSpan, at: datetime) -> bool:
    """KEDA's own rule, on cron lines with lists of days: active where the next end comes before the next start."""
    return _next(span.end, at) <= _next(span.start, at)


def _next(line: str, at: datetime) -> datetime:
    minute, hour, _, _, days = line.split()
    wanted = range(7) if days == "*" else [int(day) for day in days.split(",")]
    for offset in range(9):
        day = at.date() + timedelta(days=offset)
        one = datetime(day.year, day.month, day.day, int(hour), int(minute), tzinfo=at.tzinfo)
        if one > at and (day.weekday() + 1) % 7 in wanted:
            return one
    raise AssertionError(line)


@pytest.mark.parametrize(
    ("one", "start", "end"),
    [
        (window("09:00", "18:00"), "0 9 * * *", "0 18 * * *"),
        (window("18:30", "09:00"), "30 18 * * *", "0 9 * * *"),
        (window("18:00", "09:00", days=["fri", "sat"]), "0 18 * * 5,6", "0 9 * * 0,6"),
        (window("20:00", "24:00", days=["sun"]), "0 20 * * 0", "0 0 * * 1"),
    ],
)
def test_every_start_has_its_end_on_the_right_day(one: LaneWindow, start: str, end: str) -> None:
    assert cron_span(one) == CronSpan(start, end, BERLIN)


@pytest.mark.parametrize(
    "one",
    [
        window("09:00", "18:00"),
        window("18:00", "09:00"),
        window("18:00", "09:00", days=["mon", "tue", "wed", "thu", "fri"]),
        window("22:00", "06:00", days=["fri"]),
        window("00:00", "24:00", days=["sat", "sun"]),
        window("20:00", "24:00", days=["sun", "wed"]),
    ],
    ids=str,
)
def test_keda_is_active_exactly_in_the_window(one: LaneWindow) -> None:
    span, at = cron_span(one), datetime(2026, 11, 23, 0, 30, tzinfo=ZoneInfo(BERLIN))
    for _ in range(24 * 8):
        assert keda_says(span, at) == is_open([one], at), at
        at += timedelta(hours=1)


def test_the_whole_of_every_day_is_no_trigger() -> None:
    assert is_always(window("00:00", "24:00"))
    assert not is_always(window("00:00", "24:00", days=["mon"]))
    assert not is_always(window("00:00", "23:00"))


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (window("02:30", "06:00"), "02:30"),
        (window("22:00", "02:00"), "02:00"),
        (window("22:00", "03:00"), None),
        (window("01:59", "06:00"), None),
        (window("02:30", "06:00", time_zone="UTC"), None),
        (window("02:30", "06:00", time_zone="America/New_York"), "02:30"),
        (window("22:00", "24:00", time_zone="Asia/Beirut"), "24:00"),
    ],
)
def test_a_time_that_the_clock_jumps_over_is_named(one: LaneWindow, text: str | None) -> None:
    assert jumped_over(one) == text
