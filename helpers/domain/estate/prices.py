"""The estate's `manager.prices` block: which price table holds, and what this estate pays otherwise."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from helpers.domain.cost.price_data import TABLES
from helpers.domain.cost.price_table import known_keys
from helpers.domain.estate.base import EstateModel, broken_rule

_MOST_USD_PER_HOUR = 1000


def _exact(value: Any) -> Any:
    """A number as it is written: 0.1 in the file is a tenth here, and not the float beside it."""
    text = "" if isinstance(value, bool) else str(value)
    if re.fullmatch(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?", text) is None:
        raise broken_rule("a number, as it stands on the bill", 'write it like 3.43, or quoted: "3.43"')
    return Decimal(text)


def _day(value: Any) -> Any:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise broken_rule("a day as YYYY-MM-DD; it begins at 00:00 UTC", "write it like 2026-12-01") from error


def _card(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9]+_[1-9][0-9]{0,3}GB", value) is None:
        raise broken_rule("a card's key: its type, an underscore, its memory in GB", "write it like A100_80GB")
    return value


CardKey = Annotated[str, AfterValidator(_card)]
UsdPerHour = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, le=_MOST_USD_PER_HOUR)]
DiscountRatio = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, lt=1)]
Day = Annotated[date, BeforeValidator(_day)]


class CardPrice(EstateModel):
    """What this estate pays for one card of a kind, with its part of the host."""

    gpu: CardKey = Field(description="The card's key in the table, such as A100_80GB.")
    usd_per_hour: UsdPerHour = Field(description="One card for an hour, on demand.")
    spot_usd_per_hour: UsdPerHour | None = Field(
        default=None, description="One card for an hour, spot; absent: usd_per_hour less spot_discount_ratio."
    )
    from_day: Day | None = Field(
        default=None, alias="from", description="Holds from this day's 00:00 UTC on; absent: it always held."
    )
    source: str = Field(min_length=1, description="Where the figure is from; stands on the bills.")
    add_card: bool = Field(default=False, description="true: the table has no such card, and gets it here.")


class Prices(EstateModel):
    """What cards cost. Absent: the default table."""

    table: Literal["aws-us-east-1-2026-07-20", "reference-2026-02"] = Field(
        default="aws-us-east-1-2026-07-20", description="The price table that holds where `cards` says nothing."
    )
    spot_discount_ratio: DiscountRatio | None = Field(
        default=None, description="The part by which spot is cheaper than on demand; absent: the table's assumption."
    )
    cards: tuple[CardPrice, ...] = Field(default=(), strict=False, description="Prices of this estate's own.")

    @model_validator(mode="after")
    def _cards_are_known_and_said_once(self) -> Prices:
        keys = TABLES[self.table].keys
        seen: set[tuple[str, date | None]] = set()
        for index, card in enumerate(self.cards):
            if card.gpu not in keys and not card.add_card:
                raise broken_rule(
                    f"{card.gpu} is a card of the table {self.table}; {known_keys(card.gpu, keys)}",
                    "use a key of the table, or write add_card: true",
                    at=f"cards[{index}].gpu",
                )
            if (card.gpu, card.from_day) in seen:
                raise broken_rule(
                    f"one price for {card.gpu} from one day on",
                    "give the second entry another `from`, or remove it",
                    at=f"cards[{index}].gpu",
                )
            seen.add((card.gpu, card.from_day))
        return self
