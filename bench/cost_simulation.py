"""A week of jobs with autoscaling and spot against a fixed cluster; one JSON line.

Compared with three fixed clusters, all on demand at the same list price and paid for seven days:

- `same_wait`: as few nodes as keep the wait's 95th percentile in the reference's ten minutes;
- `busy_40_percent`: the same work on cards that are idle for 60 % of the time, as the reference says
  of its own cluster, however long the queue then is;
- `never_idle`: the same work without any idle second, which no fixed cluster reaches.

The reference wants 40 % less. Spot's price is the table's assumed discount.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from random import Random
from statistics import median
from typing import Any

from bench.cost_fixed_cluster import fixed_nodes
from bench.cost_world import (
    KINDS,
    NEVER,
    WEEK_SECONDS,
    Assumptions,
    Autoscaled,
    Lived,
    Work,
    described,
    instant,
    week_of_work,
)
from helpers.domain.cost.comparison import WANTED_SAVING_RATIO, against_fixed, idle_costs
from helpers.domain.cost.held import Charge, charges, cost_of
from helpers.domain.cost.money import exact_hours
from helpers.domain.cost.price_data import DEFAULT
from helpers.domain.cost.price_history import history_of
from helpers.domain.cost.price_table import CapacityType
from helpers.domain.estate.prices import Prices

SEEDS = tuple(range(1, 21))
SCENARIOS = (500, 5000)
REFERENCE_BUSY_RATIO = Fraction(4, 10)  # "60% do tempo idle"
HISTORY = history_of(Prices())


def one_week(seed: int, assumed: Assumptions) -> dict[str, float]:
    """Figures of one seed."""
    week = timedelta(seconds=WEEK_SECONDS)
    works = week_of_work(seed, assumed)
    counts = [(kind, fixed_nodes(works, kind, assumed.wait_p95_seconds)) for kind in KINDS]
    fixed = [(kind.node_cards * count, DEFAULT.row(kind.gpu).usd_per_gpu_hour) for kind, count in counts]
    mixed = Autoscaled(works, assumed, Random(seed), spot=True).live()  # noqa: S311
    plain = Autoscaled(week_of_work(seed, assumed), assumed, Random(seed), spot=False).live()  # noqa: S311
    paid = list(charges(mixed.nodes, HISTORY, instant(0), instant(NEVER)))
    held = list(charges(mixed.held, HISTORY, instant(0), instant(NEVER)))
    cost, alone_cost = cost_of(paid), cost_of(charges(plain.nodes, HISTORY, instant(0), instant(NEVER)))
    same_wait = against_fixed(cost, fixed, week)
    work_usd = sum((_work_usd(work) for work in works), Fraction(0))
    check_books(mixed, plain, paid, held)
    preempted = [work for work in mixed.works if work.preempted_count]
    return {
        "saved_ratio_same_wait": float(1 - cost.known / Fraction(same_wait.fixed_usd)),
        "saved_ratio_busy_40_percent": float(1 - cost.known * REFERENCE_BUSY_RATIO / work_usd),
        "saved_ratio_never_idle": float(1 - cost.known / work_usd),
        "without_spot_saved_ratio_same_wait": float(1 - alone_cost.known / Fraction(same_wait.fixed_usd)),
        "without_spot_saved_ratio_busy_40_percent": float(1 - alone_cost.known * REFERENCE_BUSY_RATIO / work_usd),
        "paid_usd": float(cost.known_usd),
        "same_wait_usd": float(same_wait.fixed_usd),
        "same_wait_cards_count": sum(count for count, _ in fixed),
        "same_wait_busy_ratio": float(work_usd / Fraction(same_wait.fixed_usd)),
        "idle_cost_ratio": float(1 - cost_of(held).known / cost.known),
        "spot_card_hours_ratio": float(_card_hours(held, CapacityType.SPOT) / _card_hours(held)),
        "wait_p95_seconds": mixed.wait_p95_seconds(),
        "preempted_jobs_count": len(preempted),
        "recovered_count": sum(1 for work in preempted if work.ended_at is not None),
        "redone_hours": sum(work.redone_seconds for work in preempted) / 3600,
    }


def _work_usd(work: Work) -> Fraction:
    """The job's own hours on demand, without waiting, booting and doing things twice."""
    price = Fraction(DEFAULT.usd_per_gpu_hour(work.kind.gpu, CapacityType.ON_DEMAND))
    return price * work.cards * Fraction(work.work_seconds, 3600)


def check_books(mixed: Lived, plain: Lived, paid: Sequence[Charge], held: Sequence[Charge]) -> None:
    """Every job ended, everything has a price, and no more was held than paid for.

    Raises:
        AssertionError: the simulation is wrong, and so would be its figures.
    """
    for lived in (mixed, plain):
        lost = [work.name for work in lived.works if work.ended_at is None]
        if lost:
            raise AssertionError(f"jobs that never ended: {lost}")
    wrong = {key: one.why for key, one in idle_costs(paid, held).items() if one.idle_usd is None}
    if wrong:
        raise AssertionError(f"the books do not close: {wrong}")


def _card_hours(held: Sequence[Charge], kind: CapacityType | None = None) -> Fraction:
    return sum(
        (
            one.segment.quantity.cards * exact_hours(one.to_at - one.from_at)
            for one in held
            if kind in (None, one.segment.capacity_type)
        ),
        Fraction(0),
    )


def over_seeds(assumed: Assumptions, seeds: Sequence[int]) -> dict[str, Any]:
    """Least, middle and most of each figure."""
    weeks = [one_week(seed, assumed) for seed in seeds]
    return {
        name: [round(figure, 3) for figure in (min(values), median(values), max(values))]
        for name in weeks[0]
        for values in [[week[name] for week in weeks]]
    }


def main() -> int:
    """Prints; there is no bound to fail, since the reference's wish is not ours to promise."""
    scenarios = {
        f"{count}_jobs_per_month": over_seeds(replace(Assumptions(), jobs_per_month=count), SEEDS)
        for count in SCENARIOS
    }
    line = {
        "benchmark": "cost_simulation",
        "compared_with": "fixed on-demand clusters: same wait; 40 % busy; never idle",
        "wanted_saved_ratio": float(WANTED_SAVING_RATIO),
        "prices": DEFAULT.name,
        "spot_discount": DEFAULT.spot_source,
        "seeds_count": len(SEEDS),
        "figures": "least, middle, most over the seeds",
        **scenarios,
        "assumed": described(Assumptions()),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
    }
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
