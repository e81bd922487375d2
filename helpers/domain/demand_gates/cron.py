"""Windows of the clock as KEDA's cron trigger reads them, and where it reads them wrongly.

The trigger is active where the next end comes before the next start. So each start needs an end of
its own on the right day: with an end on every day it would be active through a whole weekend. And a
time that the clock jumps over in spring is left out by its cron library, so a window with such a time
would count as open for most of a day, or not open for a night: those are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from helpers.domain.estate.windows import DAYS, LaneWindow

# Rules of summer time change seldom; these years stand for those to come.
_YEARS = range(2026, 2031)
_SUNDAY_FIRST = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True, slots=True)
class CronSpan:
    """`start` and `end` in cron's five fields, both in `time_zone`."""

    start: str
    end: str
    time_zone: str


def cron_span(window: LaneWindow) -> CronSpan:
    """The window for KEDA."""
    ends_later = window.to_time <= window.from_time or window.to_time == "24:00"
    return CronSpan(
        start=_cron(window.from_time, window.days, 0),
        end=_cron(window.to_time, window.days, int(ends_later)),
        time_zone=window.time_zone,
    )


def is_always(window: LaneWindow) -> bool:
    """Whether it is the whole day, every day: KEDA refuses a start that is its end."""
    return (window.from_time, window.to_time) == ("00:00", "24:00") and len(set(window.days)) == len(DAYS)


def jumped_over(window: LaneWindow) -> str | None:
    """The first of its two times that its time zone's clock jumps over; None where it shows both every day."""
    for text in (window.from_time, window.to_time):
        if _is_jumped_over(text, window.time_zone):
            return text
    return None


def _cron(time_of_day: str, days: tuple[str, ...], later_days: int) -> str:
    hour, minute = (int(part) for part in time_of_day.split(":"))
    numbers = sorted((_SUNDAY_FIRST.index(day) + later_days) % 7 for day in days)
    on_days = "*" if len(set(days)) == len(DAYS) else ",".join(str(number) for number in sorted(set(numbers)))
    return f"{minute} {hour % 24} * * {on_days}"


def _is_jumped_over(time_of_day: str, time_zone: str) -> bool:
    zone = ZoneInfo(time_zone)
    hour, minute = (int(part) for part in time_of_day.split(":"))
    day, end = date(_YEARS.start, 1, 1), date(_YEARS.stop, 1, 1)
    while day < end:
        local = datetime(day.year, day.month, day.day, hour % 24, minute, tzinfo=zone)
        shown = local.astimezone(UTC).astimezone(zone)
        if (shown.hour, shown.minute) != (local.hour, local.minute):
            return True
        day += timedelta(days=1)
    return False
