"""What jobs on shared cards pay: together with idle and overhead, a card's price and no other sum."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from helpers.domain.cost.price_table import CapacityType
from helpers.domain.cost.shared_card import HELD, Budgeted, Card, CardBill, Part, card_bill
from helpers.domain.estate.prices import Prices
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.observation import Phase
from helpers.domain.jobs.places import Place
from helpers.domain.jobs.settings import ManagerSettings, manager_settings
from helpers.services.manager_money import Purse
from tests.fakes.jobs import NOON, after, job, spec
from tests.fakes.manager import SETTINGS, ManagerBench
from tests.synth.estates import PROJECT, shipped

DAY = timedelta(days=1)


def pools() -> ManagerSettings:
    found = manager_settings(shipped(PROJECT / "estates/gpu-pools.yaml"))
    assert found is not None
    return found


POOLS = pools()
PURSE = Purse(POOLS.prices, POOLS.physical_mib())


def on_a_t4(mib: int, **changes: Any) -> Job:
    """A job that has held so much of a T4 since noon."""
    return job(spec=spec(gpu_requirements={"gpu_type": "T4", "gpu_memory_mib": mib}, **changes), started_at=NOON)


def bill_of(*held_mib: int) -> CardBill:
    """A T4 of the estate for a day, with so much of it held."""
    spans = PURSE.history.spans("T4_16GB", CapacityType.ON_DEMAND, NOON, NOON + DAY)
    held = [Budgeted(f"job-{number}", mib, NOON, NOON + DAY) for number, mib in enumerate(held_mib)]
    return card_bill(Card("GPU-1", 15360, 14000), list(spans), held, [])


def test_the_guides_example_is_what_a_job_pays() -> None:
    assert PURSE.until(on_a_t4(3000), NOON + DAY).known_usd == Decimal("2.4656")


def test_what_jobs_pay_idle_and_overhead_are_a_cards_price() -> None:
    bill = bill_of(3000, 8000)
    paid = [PURSE.until(on_a_t4(mib), NOON + DAY).known for mib in (3000, 8000)]
    assert paid == [line.cost for line in bill.lines if line.part in HELD]
    own = [line.cost for line in bill.lines if line.part in (Part.IDLE, Part.OVERHEAD)]
    assert sum((*paid, *own), Fraction(0)) == Fraction(Decimal("0.526")) * 24


def test_workers_and_estimates_pay_by_the_same_size() -> None:
    spec_ = on_a_t4(3000, workers=2).spec
    assert PURSE.estimated(spec_, [86_400.0] * 5, 86_400.0, NOON).likely_usd == Decimal("4.9312")
    assert PURSE.gpu_count(spec_.demand) == 6000 / 15360


def test_a_use_row_counts_the_cards_that_were_paid(tmp_path: Path) -> None:
    bench = ManagerBench(tmp_path, SETTINGS.model_copy(update={"places": POOLS.places}))
    job_id = bench.submit(gpu_requirements={"gpu_type": "T4", "gpu_memory_mib": 3840})
    bench.turn()
    bench.turn()
    bench.engine.see(job_id, Phase.RUNNING)
    bench.turn()
    bench.turn(3600)
    now_at = bench.clock.now_at()
    (row,) = bench.purse.usage(bench.store.held(["vision"], NOON - DAY, now_at), NOON - DAY, now_at)
    assert (row.gpu_seconds, row.cost.known_usd) == (900.0, Decimal("0.1315"))


@pytest.mark.parametrize(
    ("places", "card_mib"),
    [
        ((), 16384),
        ((0,), 16384),
        ((15360,), 15360),
        # No bill is larger than a card's price.
        ((15109, 15360), 15360),
    ],
)
def test_a_card_that_no_node_has_counts_as_large_as_its_name(places: tuple[int, ...], card_mib: int) -> None:
    base = {"gpu_type": "T4", "size_gb": 16, "selector": {}, "machine_amount": 1, "largest_amount": 1}
    there = tuple(Place(name=f"n{mib}", physical_mib=mib, **base) for mib in places)
    settings = ManagerSettings(projects=(), places=there)
    purse = Purse(Prices(), settings.physical_mib())
    assert purse.until(on_a_t4(3000), after(3600)).known == Fraction(Decimal("0.526")) * 3000 / card_mib


def test_a_mig_instance_is_its_profiles_part_whatever_the_card_really_has() -> None:
    wish = {"gpu_type": "H100", "gpu_memory_gb": 80, "mig_profile": "7g.80gb"}
    one = job(spec=spec(gpu_requirements=wish), started_at=NOON)
    assert PURSE.until(one, after(3600)).known == Fraction(Decimal("6.88"))
