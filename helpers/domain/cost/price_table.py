"""Price tables: what one card costs an hour, by card and capacity type."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum

from helpers.domain.errors import InputError
from helpers.domain.memory import BYTES_PER_MIB

_BYTES_PER_GB = 1000**3


class CapacityType(StrEnum):
    """How a node is bought; Karpenter's own words (`karpenter.sh/capacity-type`)."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"


def least_mib(marketed_gb: int) -> int:
    """MiB that a card sold with so many GB has at the least: decimal GB."""
    return marketed_gb * _BYTES_PER_GB // BYTES_PER_MIB


@dataclass(frozen=True, slots=True)
class PriceRow:
    """The on-demand price of one instance type, and so of one of its cards, host included.

    `gpu`: the card's key (`A100_80GB`). `marketed_gb`: the memory in the card's name. `note`: what a
    reader must know about the row; empty where there is nothing.
    """

    gpu: str
    gpu_type: str
    marketed_gb: int
    instance_type: str
    gpus_count: int
    usd_per_instance_hour: Decimal
    source: str
    dated_on: date
    note: str = ""

    @property
    def usd_per_gpu_hour(self) -> Decimal:
        """Exact: instances have 1, 2, 4 or 8 cards."""
        return self.usd_per_instance_hour / self.gpus_count

    @property
    def least_mib(self) -> int:
        """MiB that a card of this name has at the least: the name read as decimal GB."""
        return least_mib(self.marketed_gb)


def card_name(gpu: str) -> tuple[str, int]:
    """Type and GB of a card's key: `A100_80GB` is an A100 with 80."""
    gpu_type, _, memory = gpu.rpartition("_")
    return gpu_type, int(memory.removesuffix("GB"))


def own_row(gpu: str, usd_per_hour: Decimal, source: str, dated_on: date) -> PriceRow:
    """A card that only the estate knows: it is of no instance type, and its price is that of one card."""
    gpu_type, marketed_gb = card_name(gpu)
    return PriceRow(gpu, gpu_type, marketed_gb, "", 1, usd_per_hour, source, dated_on)


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices of one place and day. `spot_discount_ratio`: the part that spot capacity is cheaper by."""

    name: str
    place: str
    rows: tuple[PriceRow, ...]
    spot_discount_ratio: Decimal
    spot_source: str

    def row(self, gpu: str) -> PriceRow:
        """The card's row.

        Raises:
            InputError: no such card; names the nearest and all keys.
        """
        found = next((row for row in self.rows if row.gpu == gpu), None)
        if found is None:
            raise InputError(f"gpu = {gpu}: no price in {self.name}; {known_keys(gpu, self.keys)}")
        return found

    @property
    def keys(self) -> tuple[str, ...]:
        """Every card's key, in the table's order."""
        return tuple(row.gpu for row in self.rows)

    def of_type(self, gpu_type: str, at_least_gb: int = 0) -> tuple[PriceRow, ...]:
        """Rows that a request for `gpu_type` (and memory in GB) may mean, the cheapest first.

        `A100` alone means two cards; a request that names its memory means the one with that memory or more.
        """
        rows = [row for row in self.rows if row.gpu_type == gpu_type and row.marketed_gb >= at_least_gb]
        return tuple(sorted(rows, key=lambda row: (row.usd_per_gpu_hour, row.gpu)))

    def usd_per_gpu_hour(self, gpu: str, capacity_type: CapacityType) -> Decimal:
        """The table's price of one card an hour.

        Raises:
            InputError: no such card.
        """
        on_demand = self.row(gpu).usd_per_gpu_hour
        return on_demand if capacity_type is CapacityType.ON_DEMAND else spot_price(on_demand, self.spot_discount_ratio)


def spot_price(on_demand: Decimal, discount_ratio: Decimal) -> Decimal:
    """On-demand price less the discount; a product of decimals, so nothing is rounded."""
    return on_demand * (1 - discount_ratio)


def known_keys(gpu: str, keys: tuple[str, ...]) -> str:
    """The repair for an unknown key: the nearest, or all of them."""
    near = difflib.get_close_matches(gpu, keys, 1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(keys)}"
