"""Which card for which work: by its need of memory and its class, with the reason for every card passed over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from helpers.domain.cost.money import usd
from helpers.domain.cost.price_table import PriceRow, PriceTable

# Up to this part of a card a budget on a shared one is worth naming.
SHARED_UP_TO = Fraction(1, 2)


class WorkClass(StrEnum):
    """What the work is."""

    INFERENCE = "inference"
    TRAINING = "training"
    LARGE_TRAINING = "large_training"


# The order of the reference: T4 (then L40S) for inference, A100 for training, H100 for large training.
# Cards that it does not rank stand where their price puts them.
PREFERENCE: dict[WorkClass, tuple[str, ...]] = {
    WorkClass.INFERENCE: ("T4", "L4", "A10G", "L40S", "A100", "H100"),
    WorkClass.TRAINING: ("A100", "H100"),
    WorkClass.LARGE_TRAINING: ("H100", "A100"),
}


@dataclass(frozen=True, slots=True)
class GpuAdvice:
    """`gpus_count` cards of `row`, at list price on demand. `cheaper`: a card off the class's list that fits for less.

    `shared_usd_per_hour`: what the need alone costs on a shared card of the kind; None where it is most of a card.
    """

    row: PriceRow
    gpus_count: int
    usd_per_hour: Decimal
    shared_usd_per_hour: Decimal | None
    cheaper: PriceRow | None
    why: tuple[str, ...]


def advise_gpu(
    table: PriceTable, need_mib: int, work: WorkClass, physical_mib: Mapping[str, int] | None = None
) -> GpuAdvice | None:
    """The first kind of the class's preference with room for `need_mib` on one card; else several of its largest.

    None where the table has no card of the class. `physical_mib`: measured memory by card, where the estate
    knows it; the others count with what their name promises at the least.

    Raises:
        ValueError: a need that is none.
    """
    if need_mib < 1:
        raise ValueError(f"need_mib = {need_mib}: at least 1")
    measured = physical_mib or {}

    def room_mib(row: PriceRow) -> int:
        return measured.get(row.gpu, row.least_mib)

    ranked = [row for gpu_type in PREFERENCE[work] for row in table.of_type(gpu_type)]
    if not ranked:
        return None
    passed: list[str] = []
    for row in ranked:
        if room_mib(row) >= need_mib:
            why = f"{row.gpu}: first for {work.value} with room for {need_mib} MiB ({room_mib(row)} MiB)"
            cheaper = _cheaper(table, row, ranked, need_mib, measured)
            return GpuAdvice(
                row,
                1,
                usd(Fraction(row.usd_per_gpu_hour)),
                _shared(row, need_mib, room_mib(row)),
                cheaper,
                (*passed, why),
            )
        passed.append(f"{row.gpu}: {room_mib(row)} MiB, {need_mib - room_mib(row)} too few")
    row = max(ranked, key=lambda one: (room_mib(one), -ranked.index(one)))
    count = -(-need_mib // room_mib(row))
    why = f"{count} x {row.gpu}: no card has room for {need_mib} MiB; only for work that can be split over cards"
    return GpuAdvice(row, count, usd(Fraction(row.usd_per_gpu_hour) * count), None, None, (*passed, why))


def _cheaper(
    table: PriceTable, chosen: PriceRow, ranked: list[PriceRow], need_mib: int, measured: Mapping[str, int]
) -> PriceRow | None:
    """Said beside the advice, and not instead of it: memory and price do not say how fast a card is."""
    fitting = [
        row
        for row in table.rows
        if row not in ranked
        and measured.get(row.gpu, row.least_mib) >= need_mib
        and row.usd_per_gpu_hour < chosen.usd_per_gpu_hour
    ]
    return min(fitting, key=lambda row: (row.usd_per_gpu_hour, row.gpu), default=None)


def _shared(row: PriceRow, need_mib: int, room_mib: int) -> Decimal | None:
    part = Fraction(need_mib, room_mib)
    return usd(Fraction(row.usd_per_gpu_hour) * part) if part <= SHARED_UP_TO else None
