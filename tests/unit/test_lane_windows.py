"""Windows on the wall clock: over midnight, over the days on which the clock changes, and never more than declared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from helpers.domain.estate.windows import DAYS, LaneWindow
from helpers.domain.lanes.windows import is_open, next_change_at

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo")
# The weeks around both changes of the clock, in several zones.
INSTANTS = st.integers(0, 270 * 86_400).map(
    lambda seconds: datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
TIMES = st.builds(lambda hour, minute: f"{hour:02}:{minute:02}", st.integers(0, 23), st.integers(0, 59))
WINDOWS = st.builds(
    lambda days, times, zone: window(times[0], times[1], zone, days),
    st.lists(st.sampled_from(DAYS), min_size=1, unique=True),
    st.tuples(TIMES, TIMES).filter(lambda times: times[0] != times[1]),
    st.sampled_from(ZONES),
)


def window(opens: str, closes: str, zone: str = "Europe/Berlin", days: list[str] | None = None) -> LaneWindow:
    return LaneWindow.model_validate({"from": opens, "to": closes, "time_zone": zone, "days": days or list(DAYS)})


def berlin(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin"), fold=fold)


def open_minutes(one: LaneWindow, day: str) -> int:
    """Minutes of the local day on which `one` is open."""
    at = berlin(f"{day}T00:00").astimezone(UTC)
    end = (berlin(f"{day}T00:00") + timedelta(days=1)).astimezone(UTC)
    count = 0
    while at < end:
        count += is_open([one], at)
        at += timedelta(minutes=1)
    return count


def test_without_windows_a_lane_is_always_open() -> None:
    assert is_open([], berlin("2026-11-25T12:00"))
    assert next_change_at([], berlin("2026-11-25T12:00")) is None


def test_over_midnight_the_night_belongs_to_the_day_on_which_it_began() -> None:
    friday = [window("18:00", "09:00", days=["fri"])]
    assert not is_open(friday, berlin("2026-11-27T17:59"))
    assert is_open(friday, berlin("2026-11-27T18:00"))
    assert is_open(friday, berlin("2026-11-28T08:59"))
    assert not is_open(friday, berlin("2026-11-28T09:00"))
    assert not is_open(friday, berlin("2026-11-28T20:00"))
    assert not is_open(friday, berlin("2026-11-27T08:00"))


def test_the_working_day_keeps_its_hours_on_both_sides_of_summer_time() -> None:
    night = [window("18:00", "09:00")]
    for day in ("2026-03-28", "2026-03-29", "2026-03-30", "2026-10-24", "2026-10-25", "2026-10-26"):
        assert is_open(night, berlin(f"{day}T08:59"))
        assert not is_open(night, berlin(f"{day}T09:00"))
        assert not is_open(night, berlin(f"{day}T17:59"))
        assert is_open(night, berlin(f"{day}T18:00"))


def test_an_hour_shown_twice_opens_late_and_closes_early_once() -> None:
    # On 2026-10-25 Berlin shows 02:00-03:00 twice.
    closing = [window("00:00", "02:30")]
    assert is_open(closing, berlin("2026-10-25T02:29"))
    assert not is_open(closing, berlin("2026-10-25T02:30"))
    assert not is_open(closing, berlin("2026-10-25T02:15", fold=1))
    opening = [window("02:30", "05:00")]
    assert not is_open(opening, berlin("2026-10-25T02:45"))
    assert not is_open(opening, berlin("2026-10-25T02:15", fold=1))
    assert is_open(opening, berlin("2026-10-25T02:30", fold=1))


def test_a_time_that_the_clock_jumps_over_is_the_jump() -> None:
    # On 2026-03-29 Berlin goes from 02:00 to 03:00.
    assert next_change_at([window("02:30", "05:00")], berlin("2026-03-29T01:00")) == datetime(
        2026, 3, 29, 1, 0, tzinfo=UTC
    )
    assert next_change_at([window("00:00", "02:30")], berlin("2026-03-29T01:00")) == datetime(
        2026, 3, 29, 1, 0, tzinfo=UTC
    )


def test_the_night_loses_an_hour_in_spring_and_gains_one_in_autumn() -> None:
    night = window("00:00", "06:00")
    assert open_minutes(night, "2026-03-28") == 360
    assert open_minutes(night, "2026-03-29") == 300
    assert open_minutes(night, "2026-10-25") == 420


def test_the_day_s_end_can_be_written() -> None:
    whole = [window("00:00", "24:00", days=["wed"])]
    assert is_open(whole, berlin("2026-11-25T00:00"))
    assert is_open(whole, berlin("2026-11-25T23:59"))
    assert not is_open(whole, berlin("2026-11-26T00:00"))


def test_what_has_begun_ends_before_the_window_closes() -> None:
    night, lead = [window("18:00", "09:00")], timedelta(seconds=120)
    assert is_open(night, berlin("2026-11-25T08:57:59"), lead)
    assert not is_open(night, berlin("2026-11-25T08:58"), lead)
    assert next_change_at(night, berlin("2026-11-25T08:00"), lead) == berlin("2026-11-25T08:58")
    assert next_change_at(night, berlin("2026-11-25T08:58"), lead) == berlin("2026-11-25T18:00")


@given(WINDOWS, INSTANTS, st.integers(0, 7200))
def test_whatever_begins_may_run_on_for_the_lead(one: LaneWindow, at: datetime, seconds: int) -> None:
    lead = timedelta(seconds=seconds)
    assert is_open([one], at, lead) == (is_open([one], at) and is_open([one], at + lead))


@given(WINDOWS, INSTANTS)
def test_an_open_window_never_shows_a_wall_clock_outside_it(one: LaneWindow, at: datetime) -> None:
    """Whatever the clock does: where the window is open, the wall clock is within it and its day is declared."""
    if not is_open([one], at):
        return
    local = at.astimezone(ZoneInfo(one.time_zone))
    shown, midnight = local.strftime("%H:%M"), one.to_time <= one.from_time
    began_yesterday = midnight and shown < one.to_time
    day = local - timedelta(days=1) if began_yesterday else local
    assert DAYS[day.weekday()] in one.days
    assert began_yesterday or (shown >= one.from_time and (midnight or shown < one.to_time))


@given(WINDOWS, INSTANTS)
def test_nothing_changes_before_the_next_change(one: LaneWindow, at: datetime) -> None:
    change_at = next_change_at([one], at)
    assert change_at is not None
    assert at < change_at <= at + timedelta(days=9)
    now = is_open([one], at)
    assert is_open([one], change_at) != now
    for share in (0.1, 0.5, 0.9, 0.999):
        assert is_open([one], at + (change_at - at) * share) == now


@given(st.lists(WINDOWS, min_size=1, max_size=3), INSTANTS)
def test_several_windows_are_open_where_one_is(windows: list[LaneWindow], at: datetime) -> None:
    assert is_open(windows, at) == any(is_open([one], at) for one in windows)
