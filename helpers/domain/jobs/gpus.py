"""Kinds of GPU that a job may ask for, and what a request takes of which pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from helpers.domain.cost.price_data import TABLES
from helpers.domain.cost.price_table import card_name
from helpers.domain.estate.prices import Prices
from helpers.domain.memory import Mib

MIB_PER_GB = 1024
"""NVIDIA's sizes in GB are GiB: an "80 GB" A100 has 81920 MiB. The one place where GB becomes MiB."""

CardKind = tuple[str, str]
"""A card's price key (`A100_80GB`), and how its node is bought (`spot`, `on-demand`)."""
AskKind = Literal["whole", "mig", "shared"]


# Sizes in which a card is sold, smallest first, and the MIG profiles that NVIDIA's guide lists for each. Other
# cards may be asked for as well: those that the estate has a price for (`card_sizes`).
_EIGHTY = ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
GPU_TYPES: dict[str, dict[int, tuple[str, ...]]] = {
    "A100": {40: ("1g.5gb", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"), 80: _EIGHTY},
    "H100": {80: _EIGHTY},
    "L40S": {48: ()},
    "A10G": {24: ()},
    "T4": {16: ()},
}
_COMPUTE_SLICES = 7


def card_sizes(prices: Prices) -> dict[str, tuple[int, ...]]:
    """`{type: sizes in GB}` of every card that a job may ask for: those above, and each that has a price here."""
    found = {gpu_type: set(sizes) for gpu_type, sizes in GPU_TYPES.items()}
    for gpu in (*TABLES[prices.table].keys, *(card.gpu for card in prices.cards)):
        gpu_type, size_gb = card_name(gpu)
        found.setdefault(gpu_type, set()).add(size_gb)
    return {gpu_type: tuple(sorted(sizes)) for gpu_type, sizes in found.items()}


SOLD_SIZES_GB = card_sizes(Prices())
"""Of the cards that every estate knows: who has no estate at hand asks here. An estate may have others."""


def mib_of_gb(size_gb: int) -> Mib:
    """MiB of a card that is sold as `size_gb` GB."""
    return size_gb * MIB_PER_GB


@dataclass(frozen=True, order=True)
class Pool:
    """Interchangeable things that jobs wait for: cards of a type and size, MIG instances, or MiB on shared cards."""

    gpu_type: str
    size_gb: int
    kind: AskKind = "whole"
    profile: str = ""

    @property
    def name(self) -> str:
        """As metrics and the API call it: `A100_80GB`, `A100_80GB/1g.10gb`, `T4_16GB/mib`; the first part is priced."""
        return self.price_key + {"whole": "", "mig": f"/{self.profile}", "shared": "/mib"}[self.kind]

    @property
    def price_key(self) -> str:
        """The card's name in the price table."""
        return f"{self.gpu_type}_{self.size_gb}GB"


@dataclass(frozen=True)
class Demand:
    """What a job takes of its pool, all workers together. `amount`: cards, instances or MiB.

    `worker_amount`: what each of `workers` takes; all start together or none does.
    """

    pool: Pool
    worker_amount: int
    workers: int = 1

    @property
    def amount(self) -> int:
        """Of all workers."""
        return self.worker_amount * self.workers

    def gpu_count(self) -> float:
        """How many cards that is; a part of one where the card is shared or divided."""
        if self.pool.kind == "shared":
            return self.amount / mib_of_gb(self.pool.size_gb)
        if self.pool.kind == "mig":
            return self.amount * instance_ratio(self.pool)
        return float(self.amount)


def instance_ratio(pool: Pool) -> float:
    """The part of a card that one MIG instance of `pool` takes: of its compute slices or its memory, the larger.

    Raises:
        KeyError: it is no MIG pool.
    """
    if pool.kind != "mig":
        raise KeyError(pool.name)
    slices, _, memory = pool.profile.partition("g.")
    return max(int(slices) / _COMPUTE_SLICES, int(memory.removesuffix("gb")) / pool.size_gb)
