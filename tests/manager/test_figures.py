"""What Prometheus is told about waiting and money."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from helpers.adapters.manager_metrics import PrometheusManagerMetrics
from helpers.adapters.metrics import new_registry
from helpers.domain.errors import DependencyError
from helpers.domain.jobs.observation import Phase
from helpers.services.manager_figures import MONEY_SECONDS, ManagerFigures
from tests.fakes.manager import ManagerBench


@pytest.fixture
def bench(tmp_path: Path) -> ManagerBench:
    return ManagerBench(tmp_path)


@pytest.fixture
def figures(bench: ManagerBench) -> ManagerFigures:
    return ManagerFigures(
        bench.store, bench.board, bench.purse, bench.settings, bench.metrics, bench.clock, bench.log, bench.engine
    )


def test_the_oldest_that_waits_of_each_project(bench: ManagerBench, figures: ManagerFigures) -> None:
    bench.submit(project_id="vision")
    bench.clock.advance(60)
    bench.submit(project_id="vision")
    bench.submit(project_id="text")
    bench.board.look()
    bench.clock.advance(5)
    figures.look_at_waiting()
    assert bench.metrics.longest_seconds == {"vision": 65.0, "text": 5.0}


def test_every_project_has_its_months_money(bench: ManagerBench, figures: ManagerFigures) -> None:
    job_id = bench.submit(project_id="vision")
    bench.turn()
    bench.turn()
    bench.engine.see(job_id, Phase.RUNNING)
    bench.turn()
    bench.clock.advance(3600)
    figures.look_at_money()
    spent_usd = bench.metrics.spent_usd
    assert set(spent_usd) == {"vision", "text", "ml-research"}
    assert spent_usd["vision"] > 0
    assert spent_usd["text"] == Decimal(0)
    bench.clock.advance(40 * 86_400)  # another month, all of which it was held
    figures.look_at_money()
    assert bench.metrics.spent_usd["vision"] > spent_usd["vision"]


def test_a_database_that_does_not_answer_leaves_the_figures_as_they_were(
    bench: ManagerBench, figures: ManagerFigures, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: Iterator[bool] = iter([True, False, False])

    def held(*_arguments: object) -> tuple[()]:
        if next(answers, False):
            raise DependencyError("the database is gone")
        return ()

    monkeypatch.setattr(bench.store, "held", held)
    until_seconds = bench.clock.monotonic_seconds() + MONEY_SECONDS + 5
    figures.run(lambda: bench.clock.monotonic_seconds() > until_seconds)
    assert set(bench.metrics.spent_usd) == {"vision", "text", "ml-research"}  # at the second look
    assert bench.log.of("spending_not_read") == [{"reason": "the database is gone"}]


def running(bench: ManagerBench, **changes: object) -> str:
    job_id = bench.submit(**changes)
    bench.turn()
    bench.turn()
    bench.engine.see(job_id, Phase.RUNNING)
    bench.turn()
    return job_id


def test_cards_that_are_held_and_cards_that_are_there_with_their_prices(
    bench: ManagerBench, figures: ManagerFigures
) -> None:
    running(bench, workers=2, preemptible=True)
    running(bench, gpu_requirements={"gpu_type": "T4", "gpu_memory_mib": 4096})
    bench.submit()  # waits, and holds nothing
    bench.engine.cards = {("A100_80GB", "spot"): 8, ("X1_8GB", "on-demand"): 1}
    bench.board.look()
    figures.look_at_cards()
    metrics = bench.metrics
    assert metrics.held_cards == {("A100_80GB", "spot"): 2.0, ("T4_16GB", "on-demand"): 0.25}
    assert metrics.node_cards == bench.engine.cards
    assert {gpu for gpu, _ in metrics.card_prices} == {"A100_80GB", "T4_16GB"}  # what has no price is not shown
    assert metrics.card_prices["A100_80GB", "spot"] == Decimal("1.029264375")


def test_a_kind_of_card_that_is_gone_shows_0_and_both_capacity_types_are_there() -> None:
    registry = new_registry("gpumem-manager", "test")
    metrics = PrometheusManagerMetrics(registry)
    metrics.cards({("A100_80GB", "spot"): 2.0}, {("A100_80GB", "spot"): 8})
    metrics.cards({}, {})

    def shown(name: str, kind: str) -> float | None:
        labels = {"gpu": "A100_80GB", "capacity_type": kind}
        return registry.get_sample_value(f"gpumem_manager_{name}", labels)

    assert [shown(name, kind) for name in ("held_cards", "node_cards") for kind in ("spot", "on-demand")] == [0.0] * 4


def test_the_time_from_a_turn_to_the_gpus_is_counted_and_so_is_who_recovers(bench: ManagerBench) -> None:
    well, badly, first = bench.submit(preemptible=True), bench.submit(preemptible=True), bench.submit()
    bench.turn()
    bench.clock.advance(90)
    for job_id in (well, badly, first):
        bench.engine.see(job_id, Phase.RUNNING)
    bench.turn()
    assert bench.metrics.starts == pytest.approx([91.0] * 3, abs=2)
    for job_id in (well, badly):
        bench.engine.see(job_id, Phase.PREEMPTED)
    bench.engine.see(first, Phase.SUCCEEDED)
    for _ in range(4):
        bench.turn()
    for job_id, phase in ((well, Phase.SUCCEEDED), (badly, Phase.FAILED)):
        bench.engine.see(job_id, Phase.RUNNING)
        bench.turn()
        bench.engine.see(job_id, phase)
        bench.turn()
    assert [bench.job(job_id).status for job_id in (well, badly, first)] == ["completed", "failed", "completed"]
    assert bench.metrics.recoveries == {("vision", "completed"): 1, ("vision", "failed"): 1}
