"""The estate's words for hours of the day: windows on the wall clock of a time zone."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from helpers.domain.estate.base import EstateModel, broken_rule

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _time_of_day(value: str) -> str:
    if re.fullmatch(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00", value) is None:
        raise broken_rule("a time of day, 00:00 to 24:00, quoted", 'write it as "09:00"')
    return value


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, OSError, ValueError) as error:  # not found; a folder of the database; a path out of it
        raise broken_rule("a time zone that the IANA database knows", "write it as Europe/Berlin, or UTC") from error
    return value


TimeOfDay = Annotated[str, AfterValidator(_time_of_day)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]


class LaneWindow(EstateModel):
    """Hours in which a batch lane or a gated tenant may run. `to` before `from`: over midnight, into the day after."""

    days: tuple[Day, ...] = Field(
        default=DAYS, min_length=1, strict=False, description="Days on which the window begins; absent: every day."
    )
    from_time: TimeOfDay = Field(alias="from", description="When it opens, in its time zone.")
    to_time: TimeOfDay = Field(alias="to", description="When it closes; 24:00 is the day's end.")
    time_zone: TimeZone = Field(default="UTC", description="Name in the IANA database; summer time is heeded.")

    @model_validator(mode="after")
    def _spans_something(self) -> LaneWindow:
        if self.from_time == self.to_time or self.from_time == "24:00":
            raise broken_rule(
                "a window opens before it closes; from and to are the same, or from is the day's end",
                'write from: "00:00" and to: "24:00" for the whole day',
                at="from",
            )
        return self
