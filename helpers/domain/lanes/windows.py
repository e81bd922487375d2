"""Windows of the clock: when a batch lane may run.

A window is read as people read it, on the wall clock of its time zone, and never as more than that:
where the clock goes back and shows an hour twice, it opens at the second and closes at the first of
two equal times; where the clock jumps over a time, that time is the instant of the jump.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from helpers.domain.estate.windows import DAYS, LaneWindow

# One week and a day on either side holds every boundary that can be next.
_DAYS_AHEAD = 9
_ONE_DAY = timedelta(days=1)


_NO_TIME = timedelta(0)


def is_open(windows: Sequence[LaneWindow], at: datetime, lead: timedelta = _NO_TIME) -> bool:
    """Whether one of `windows` is open at the aware instant `at`, and still will be `lead` later; with none, always.

    `lead`: how long before a window closes nothing begins any more, so that what has begun ends in it.
    """
    instants = {at, at + lead}
    return not windows or all(
        any(opens <= one < closes for window in windows for opens, closes in _spans(window, one, 1)) for one in instants
    )


def next_change_at(windows: Sequence[LaneWindow], at: datetime, lead: timedelta = _NO_TIME) -> datetime | None:
    """The next instant after `at` at which `is_open` changes; None where it never does."""
    now = is_open(windows, at, lead)
    edges = {edge for window in windows for span in _spans(window, at, _DAYS_AHEAD) for edge in span}
    candidates = sorted(one for edge in edges for one in {edge, edge - lead} if one > at)
    return next((one for one in candidates if is_open(windows, one, lead) != now), None)


def _spans(window: LaneWindow, at: datetime, days_ahead: int) -> Iterator[tuple[datetime, datetime]]:
    """The window's spans in UTC that begin from the day before `at` on."""
    zone = ZoneInfo(window.time_zone)
    today = at.astimezone(zone).date()
    over_midnight = window.to_time <= window.from_time
    for offset in range(-1, days_ahead + 1):
        day = today + timedelta(days=offset)
        if DAYS[day.weekday()] not in window.days:
            continue
        opens = _instant(zone, day, window.from_time, first=False)
        closes = _instant(zone, day + _ONE_DAY if over_midnight else day, window.to_time, first=True)
        if opens < closes:
            yield opens, closes


def _instant(zone: ZoneInfo, day: date, text: str, *, first: bool) -> datetime:
    """When the wall clock shows `text` on `day`; of two such instants the first or the last."""
    if text == "24:00":
        day, text = day + _ONE_DAY, "00:00"
    hour, minute = map(int, text.split(":"))
    local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
    before, after = local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)
    if after < before:  # the clock never shows it: PEP 495 gives the later instant for fold=0
        return _jump(zone, after, before)
    return before if first else after


def _jump(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """The instant between `low` and `high` at which the zone's offset changes, to the second."""
    offset = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        if middle.astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return high
