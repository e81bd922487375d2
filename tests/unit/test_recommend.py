"""Budgets from measured use: percentiles, spikes, leaks, thin data, fit and who could give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from helpers.domain.budget_change import BudgetChange, ReserveChange, check_fit
from helpers.domain.errors import CheckFailed
from helpers.domain.estate.model import Estate
from helpers.domain.telemetry.card_reserve import measure_reserve
from helpers.domain.watchdog.recommendation import (
    Confidence,
    Leak,
    PodUse,
    UsePoint,
    percentile,
    recommend,
    use_by_tenant,
)
from helpers.domain.watchdog.trace import Frame, Trace
from helpers.rendering.estate_edit import edit_file
from helpers.rendering.estate_file import load_estate
from helpers.services.recommend import advise, write_advice
from tests.cases.recycling.world import NOW, pod, sample

ROOT = Path(__file__).parents[2]


def use(mib_at_hour: Callable[[float], int], *, days: float = 8, every_minutes: int = 15, seen: bool = True) -> PodUse:
    count = round(days * 24 * 60 / every_minutes)
    points = tuple(
        UsePoint(NOW + timedelta(minutes=i * every_minutes), mib_at_hour(i * every_minutes / 60)) for i in range(count)
    )
    return PodUse("ns/p", NOW - timedelta(seconds=30) if seen else None, points)


def test_percentiles_are_values_that_were_seen() -> None:
    values = list(range(1, 101))
    assert [percentile(values, ratio) for ratio in (0.01, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert percentile([], 0.5) is None


def test_a_steady_tenant_gets_p99_with_headroom_and_high_confidence() -> None:
    noise = Random(1)  # noqa: S311 - noise, no secret
    advice = recommend("t", 5000, [use(lambda _hour: 6900 + noise.randint(-50, 50))])
    assert advice.growth.leak is Leak.STEADY
    assert advice.suggested_mib == 7700
    assert advice.confidence is Confidence.HIGH
    assert advice.below_need is True
    assert advice.reasons == ("p99 6950 and 10% headroom is 7645 MiB; rounded up to 100",)


def test_a_rare_peak_above_the_headroom_is_held_too() -> None:
    advice = recommend("t", 5000, [use(lambda hour: 3000 if hour == 100 else 1000)])
    assert (advice.p99_mib, advice.max_mib, advice.suggested_mib) == (1000, 3000, 3000)


def test_the_start_up_spike_is_told_apart_from_the_usual() -> None:
    spiky = use(lambda hour: 4000 if hour == 0 else 1500)
    assert recommend("t", 5000, [spiky]).startup_spike_mib == 2500
    assert recommend("t", 5000, [replace(spiky, started_at=None)]).startup_spike_mib is None


def test_a_leak_has_a_slope_and_no_suggestion() -> None:
    noise = Random(2)  # noqa: S311 - noise, no secret
    advice = recommend("t", 3000, [use(lambda hour: round(2000 + hour * 40) + noise.randint(-30, 30))])
    assert advice.growth.leak is Leak.GROWING
    assert advice.growth.mib_per_day == pytest.approx(960, rel=0.02)
    assert advice.growth.tau_ratio is not None
    assert advice.growth.tau_ratio > 0.9
    assert advice.suggested_mib is None
    assert "no budget holds that" in advice.reasons[0]


def test_load_by_day_and_night_is_no_leak() -> None:
    advice = recommend("t", 3000, [use(lambda hour: 3000 if 8 <= hour % 24 < 20 else 1000)])
    assert advice.growth.leak is Leak.STEADY


def test_one_jump_by_a_restart_is_no_leak_because_pods_are_not_mixed() -> None:
    first = use(lambda _hour: 1000, days=4)
    second = PodUse("ns/q", None, tuple(UsePoint(p.at + timedelta(days=4), 2000) for p in first.points))
    assert recommend("t", 3000, [first, second]).growth.leak is Leak.STEADY


@pytest.mark.parametrize(
    ("uses", "reason"),
    [
        ([], "it was seen for 0.0 h, and a suggestion needs 24"),
        ([use(lambda _hour: 900, days=0.5, every_minutes=1)], "it was seen for 12.0 h, and a suggestion needs 24"),
        ([use(lambda _hour: 900, days=3, every_minutes=60)], "72 looks show it, and a suggestion needs 200"),
    ],
)
def test_thin_data_gives_no_suggestion_and_says_so(uses: list[PodUse], reason: str) -> None:
    advice = recommend("t", 3000, uses)
    assert advice.suggested_mib is None
    assert advice.confidence is Confidence.NONE
    assert reason in advice.reasons


def test_two_days_seen_are_worth_less_than_eight() -> None:
    assert recommend("t", 1, [use(lambda _hour: 900, days=2, every_minutes=10)]).confidence is Confidence.MEDIUM


def trace_of(free_mib: int = 6000, *, ok: bool = True, looks: int = 300) -> Trace:
    card = sample({"ns/a": 3000, "ns/b": 6000}, free_mib=free_mib, unattributed_mib=60, ok=ok)
    pods = (pod("ns/a"), pod("ns/b", tenant=None))
    return tuple(
        Frame(NOW + timedelta(minutes=15 * i), (replace(card, sampled_at=NOW + timedelta(minutes=15 * i)),), pods)
        for i in range(looks)
    )


def test_use_is_taken_by_tenant_and_failed_looks_are_not_zero() -> None:
    assert {name: uses[0].points[0].used_mib for name, uses in use_by_tenant(trace_of()).items()} == {"a": 3000}
    assert use_by_tenant(trace_of(ok=False)) == {}


def test_the_reserve_is_what_is_neither_free_nor_pods() -> None:
    (reserve,) = measure_reserve(trace_of(free_mib=5905))
    assert (reserve.p99_mib, reserve.suggested_mib) == (455, 460)
    (thin,) = measure_reserve(trace_of(looks=10))
    assert thin.suggested_mib is None
    (failed,) = measure_reserve(trace_of(ok=False))
    assert (failed.looks_count, failed.p99_mib) == (0, None)


@pytest.fixture
def estate() -> Estate:
    return load_estate(ROOT / "gpumem.yaml")[0]


def test_a_change_that_fits_is_accepted(estate: Estate) -> None:
    fit = check_fit(estate, [BudgetChange("llama-swap", 5000, 5700)])
    assert fit.fits
    assert fit.estate.tenants[1].budget_mib == 5700


def test_a_change_that_does_not_fit_names_who_could_give_measured_ones_first(estate: Estate) -> None:
    """Field fault 6: the budget of 5000 lies under the resident 6996, and the card is full."""
    calm = recommend("immich-ml", 3000, [use(lambda _hour: 1200)])
    fit = check_fit(estate, [BudgetChange("llama-swap", 5000, 7700)], [calm])
    assert not fit.fits
    assert str(fit.givers["t4-node"][0]) == "immich-ml (budget 3000, 1600 MiB over its measured need)"
    assert str(fit.givers["t4-node"][1]) == "frigate (budget 2000, elastic: true would free 2000 MiB)"
    assert "always-on budgets are 16000 MiB" in fit.message()
    assert "llama-swap" not in [giver.tenant for giver in fit.givers["t4-node"]]


def test_a_reserve_that_leaves_too_little_names_who_could_give(estate: Estate) -> None:
    fit = check_fit(estate, [ReserveChange("t4-node", "Tesla T4", 1360, 4000)])
    assert not fit.fits
    assert "t4-node" in fit.givers


def test_advice_is_written_only_where_it_fits(tmp_path: Path, estate: Estate) -> None:
    file = tmp_path / "gpumem.yaml"
    file.write_bytes((ROOT / "gpumem.yaml").read_bytes())
    trace = tuple(
        replace(frame, pods=tuple(replace(p, tenant="llama-swap") for p in frame.pods if p.name == "a"))
        for frame in trace_of()
    )
    advice = advise(estate, trace)
    assert advice.changes == (BudgetChange("llama-swap", 5000, 3300),)
    assert write_advice(file, advice, edit_file)
    assert not write_advice(file, advise(load_estate(file)[0], trace), edit_file)
    grown = tuple(replace(f, samples=(sample({"ns/a": 9000}, free_mib=6000, sampled_at=f.at),)) for f in trace)
    before = file.read_bytes()
    with pytest.raises(CheckFailed, match="not written, it would not fit"):
        write_advice(file, advise(load_estate(file)[0], grown), edit_file)
    assert file.read_bytes() == before


def test_a_measured_reserve_only_ever_raises_the_declared_one(estate: Estate) -> None:
    low = advise(estate, trace_of(free_mib=5905))
    assert [change for change in low.changes if isinstance(change, ReserveChange)] == []
    high = advise(estate, trace_of(free_mib=4900))
    assert [change for change in high.changes if isinstance(change, ReserveChange)] == [
        ReserveChange("t4-node", "Tesla T4", 1360, 1460)
    ]
