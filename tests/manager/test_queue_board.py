"""The queue as replicas see it, and the bill."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from helpers.domain.errors import ClusterError, DependencyError
from helpers.domain.estate.prices import Prices
from helpers.domain.jobs.gpus import Pool
from helpers.domain.jobs.observation import Phase
from helpers.domain.watchdog.recommendation import Confidence
from helpers.services import manager_queue
from helpers.services.manager_money import Purse
from helpers.services.manager_queue import QueueBoard
from tests.fakes.jobs import NOON, after, job, spec
from tests.fakes.manager import ManagerBench


@pytest.fixture
def bench(tmp_path: Path) -> ManagerBench:
    return ManagerBench(tmp_path)


def test_a_new_job_is_placed_without_another_look(bench: ManagerBench) -> None:
    for priority in ("high", "low", "low"):
        bench.submit(priority=priority)
    bench.board.look()
    estimate = bench.board.of_new(spec(priority="medium"), bench.clock.now_at())
    assert (estimate.position, estimate.confidence) == (2, Confidence.LOW)
    none = bench.board.of_new(spec(gpu_requirements={"gpu_type": "T4"}), bench.clock.now_at())
    assert (none.starts_at, none.confidence, none.basis) == (None, Confidence.NONE, "there are 0 T4_16GB now")


def test_submits_between_two_looks_stand_one_behind_the_other(bench: ManagerBench) -> None:
    def told(priority: str = "medium") -> int:
        return bench.board.of_submitted(bench.job(bench.submit(priority=priority))).position

    first = bench.job(bench.submit())
    for _ in range(2):  # sent again, with its key
        bench.board.of_submitted(first)
    assert [told(), told("low"), told("high"), told()] == [2, 3, 1, 4]
    bench.board.look()
    assert [told(), told("high"), told("low")] == [5, 2, 8]
    bench.board.look()
    assert told() == 7


def position(bench: ManagerBench, board: QueueBoard, **changes: object) -> int:
    bench.clock.advance(0.001)
    return board.of_asked(bench.job(bench.submit(**changes))).position


def test_who_asks_is_told_the_order_of_commits_whoever_took_them(tmp_path: Path, url: str) -> None:
    bench = ManagerBench(tmp_path, url=url)
    other = QueueBoard(bench.store, bench.engine, bench.settings, bench.clock, bench.log)
    assert [position(bench, bench.board), position(bench, other), position(bench, bench.board)] == [1, 2, 3]
    bench.clock.advance(1)
    bench.board.look()  # some are so new that they are looked at anew
    bench.clock.advance(1)
    assert [position(bench, bench.board), position(bench, other)] == [4, 5]
    bench.clock.advance(10)
    bench.board.look()
    assert [position(bench, board, priority="low") for board in (bench.board, other)] == [6, 7]
    assert [position(bench, board, priority="high") for board in (bench.board, other)] == [1, 2]
    assert position(bench, bench.board) == 8


def test_in_a_long_queue_the_database_is_asked_nothing_more(
    bench: ManagerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager_queue, "LONG_QUEUE_COUNT", 1)
    for _ in range(2):
        bench.submit()
    bench.board.look()
    monkeypatch.delattr(bench.store.__class__.__mro__[1], "waiting_before")
    assert position(bench, bench.board) == 3


def test_a_database_that_does_not_answer_leaves_what_the_last_look_says(
    bench: ManagerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_arguments: object) -> int:
        raise DependencyError("the database is gone")

    monkeypatch.setattr(bench.store, "waiting_before", silent)
    assert position(bench, bench.board) == 1
    assert bench.log.of("position_not_read") == [{"job_id": "gpu-job-1", "reason": "the database is gone"}]


def test_measured_durations_make_starts_surer(bench: ManagerBench) -> None:
    bench.engine.pools = {Pool("A100", 80): 1}
    for _ in range(3):
        job_id = bench.submit()
        bench.turn()
        bench.engine.see(job_id, Phase.RUNNING)
        bench.turn()
        bench.engine.see(job_id, Phase.SUCCEEDED)
        bench.turn(600)
        del bench.engine.jobs[job_id]
    first, second = bench.submit(), bench.submit()
    bench.turn()
    bench.engine.see(first, Phase.RUNNING)
    bench.turn()
    assert bench.job(first).started_at == bench.clock.now_at()
    bench.clock.advance(60)
    bench.board.look()
    estimate = bench.board.of(second)
    assert estimate is not None
    assert estimate.confidence is Confidence.HIGH
    assert estimate.starts_at == bench.clock.now_at() + timedelta(seconds=600 - 60)


def test_a_look_that_fails_leaves_the_last_one(bench: ManagerBench) -> None:
    bench.submit()
    bench.board.look()
    bench.engine.broken["capacity"] = ClusterError("no answer")
    looks: list[float] = []
    bench.clock.when_slept = lambda: looks.append(1)
    bench.board.run(lambda: len(looks) >= 3)
    assert len(bench.board.last.order) == 1
    assert bench.log.of("queue_not_read")


@pytest.mark.parametrize(
    ("wish", "cards"),
    [
        ({"gpu_type": "A100", "gpu_memory_gb": 80, "gpu_count": 3}, 3),
        ({"gpu_type": "A100", "mig_profile": "3g.40gb"}, 0.5),
        ({"gpu_type": "T4", "gpu_memory_mib": 4096}, 0.25),
    ],
)
def test_a_job_is_charged_for_its_part_of_a_card(wish: dict[str, object], cards: float) -> None:
    purse = Purse(Prices(table="reference-2026-02"))
    one = job(spec=spec(gpu_requirements=wish, workers=2), started_at=NOON)
    whole = {"A100": Decimal("4.10"), "T4": Decimal("0.526")}[str(wish["gpu_type"])]
    cost_usd = purse.until(one, after(3600)).known_usd
    assert cost_usd == pytest.approx(whole * 2 * Decimal(str(cards)), abs=Decimal("0.0001"))


def test_what_has_no_price_is_not_free() -> None:
    purse = Purse(Prices())
    one = job(spec=spec(gpu_requirements={"gpu_type": "A10G"}), started_at=NOON)
    cost = purse.until(one, after(3600))
    assert cost.complete is ("A10G_24GB" in purse.table.keys)
