"""What jobs cost: by the time in which they really held their cards, at the estate's prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from helpers.domain.cost.estimate import CostEstimate, estimate, price_range
from helpers.domain.cost.held import CardMemory, Segment, WholeCards, charges, cost_of
from helpers.domain.cost.money import Cost, Month, summed
from helpers.domain.cost.price_history import history_of, table_of
from helpers.domain.cost.price_table import CapacityType, PriceTable, own_row
from helpers.domain.estate.prices import Prices
from helpers.domain.jobs.change import Change, HeldAttempt
from helpers.domain.jobs.gpus import Demand, Pool, mib_of_gb
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.spec import JobSpec
from helpers.ports.job_store import JobStore

_MOST_KEPT_COUNT = 4096


@dataclass(frozen=True)
class UsageRow:
    """What a project held of one pool on one kind of capacity."""

    pool: str
    capacity: str
    gpu_seconds: float
    cost: Cost


class Purse:
    """The estate's prices, put to use.

    `physical_mib`: `{card's price key: MiB of one card}`, so that the parts of a shared card sum to its price. A card
    that is not in it counts as large as its name says.
    """

    def __init__(self, prices: Prices, physical_mib: Mapping[str, int] | None = None) -> None:
        self._physical_mib = dict(physical_mib or {})
        self.table = table_of(prices)
        self.history = history_of(prices)
        # Most jobs are like many others, and a list shows many.
        self._estimated = lru_cache(_MOST_KEPT_COUNT)(self._estimate)

    def estimated(
        self, spec: JobSpec, durations_seconds: Sequence[float], most_seconds: float, at: datetime
    ) -> CostEstimate:
        """What a job will cost, all its workers together. Prices change at midnight UTC and at no other time."""
        day_at = datetime.combine(at.astimezone(UTC), time(), UTC)
        return self._estimated(
            spec.demand, spec.preemptible, spec.budget_limit_usd, tuple(durations_seconds), most_seconds, day_at
        )

    def _estimate(
        self,
        demand: Demand,
        preemptible: bool,
        budget_limit_usd: Decimal | None,
        durations_seconds: tuple[float, ...],
        most_seconds: float,
        at: datetime,
    ) -> CostEstimate:
        prices = price_range(self.history, [demand.pool.price_key], at, preemptible=preemptible)
        one = estimate(
            self._held(demand), prices, [round(seconds) for seconds in durations_seconds], round(most_seconds)
        )

        def capped(amount: Decimal | None) -> Decimal | None:
            if amount is None:
                return None
            return min(amount, budget_limit_usd or amount)

        return replace(
            one, low_usd=capped(one.low_usd), likely_usd=capped(one.likely_usd), high_usd=capped(one.high_usd)
        )

    def until(self, job: Job, now_at: datetime) -> Cost:
        """What it has cost, its present attempt included."""
        past = Cost(known=_exact(job.cost_usd))
        if job.started_at is None:
            return past
        return past + self._of(job.spec.demand, job.capacity, job.started_at, now_at)

    def billed(self, change: Change) -> Change:
        """The change with the bill of the attempt that it ends."""
        if not change.ends_attempt:
            return change
        return replace(change, new=replace(change.new, cost_usd=self.until(change.old, change.at).known_usd))

    def usage(self, held: Iterable[HeldAttempt], from_at: datetime, to_at: datetime) -> list[UsageRow]:
        """What was held between two instants, by pool and capacity."""
        rows: dict[tuple[str, str], UsageRow] = {}
        for one in held:
            pool = Pool(one.gpu_type, one.size_gb, one.kind, one.profile)  # type: ignore[arg-type] # as it was kept
            begin_at, end_at = max(one.from_at, from_at), min(one.to_at or to_at, to_at)
            if begin_at >= end_at:
                continue
            demand = Demand(pool, one.amount)
            seconds = (end_at - begin_at).total_seconds() * self.gpu_count(demand)
            cost = self._of(demand, one.capacity, begin_at, end_at)
            key = (pool.name, one.capacity)
            known = rows.get(key, UsageRow(*key, 0.0, Cost()))
            rows[key] = UsageRow(*key, known.gpu_seconds + seconds, known.cost + cost)
        return [rows[key] for key in sorted(rows)]

    def priced(self, at: datetime) -> PriceTable:
        """The estate's table with its own cards and prices, as they are at `at`."""
        rows = {row.gpu: row for row in self.table.rows}
        for point in self.history.points:
            holds = self.history.at(point.gpu, point.capacity_type, at)
            if point.capacity_type is not CapacityType.ON_DEMAND or holds is None:
                continue
            price = holds.usd_per_gpu_hour
            rows[point.gpu] = (
                replace(rows[point.gpu], usd_per_instance_hour=price * rows[point.gpu].gpus_count, source=holds.source)
                if point.gpu in rows
                else own_row(point.gpu, price, holds.source, at.date())
            )
        return replace(self.table, rows=tuple(rows.values()))

    def segment(
        self, demand: Demand, capacity: str, from_at: datetime, to_at: datetime | None, job_id: str = ""
    ) -> Segment:
        """What is held of a pool, as it is priced."""
        kind = CapacityType(capacity)
        return Segment(job_id, "", None, demand.pool.price_key, self._held(demand), kind, from_at, to_at)

    def gpu_count(self, demand: Demand) -> float:
        """How many cards that is; of a shared card, the part that is paid."""
        if demand.pool.kind != "shared":
            return demand.gpu_count()
        return demand.amount / self._card_mib(demand.pool)

    def _held(self, demand: Demand) -> WholeCards | CardMemory:
        """All workers together: each one's memory is on one card, and the price is by the MiB."""
        pool, amount = demand.pool, demand.amount
        if pool.kind == "whole":
            return WholeCards(amount)
        if pool.kind == "mig":
            # A profile's size is as nominal as the card's: `7g.80gb` is a whole `A100_80GB`, whatever both really have.
            size_gb = int(pool.profile.partition("g.")[2].removesuffix("gb"))
            return CardMemory(mib_of_gb(size_gb), mib_of_gb(pool.size_gb), amount)
        return CardMemory(1, self._card_mib(pool), amount)

    def _card_mib(self, pool: Pool) -> int:
        return self._physical_mib.get(pool.price_key, mib_of_gb(pool.size_gb))

    def _of(self, demand: Demand, capacity: str, from_at: datetime, to_at: datetime) -> Cost:
        segment = self.segment(demand, capacity, from_at, max(from_at, to_at))
        return cost_of(charges([segment], self.history, from_at, max(from_at, to_at)))


def month_cost(store: JobStore, purse: Purse, project_id: str, now_at: datetime) -> Cost:
    """What the project has spent in this month, UTC.

    Raises:
        DependencyError: the database does not answer.
    """
    from_at = Month.of(now_at).from_at
    return total(purse.usage(store.held([project_id], from_at, now_at), from_at, now_at))


def total(rows: Iterable[UsageRow]) -> Cost:
    """All of it together."""
    return summed(row.cost for row in rows)


def _exact(amount: Decimal) -> Fraction:
    return Fraction(amount)
