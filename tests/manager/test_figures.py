"""What Prometheus is told about waiting and money."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from helpers.domain.errors import DependencyError
from helpers.domain.jobs.observation import Phase
from helpers.services.manager_figures import MONEY_SECONDS, ManagerFigures
from tests.fakes.manager import ManagerBench


@pytest.fixture
def bench(tmp_path: Path) -> ManagerBench:
    return ManagerBench(tmp_path)


@pytest.fixture
def figures(bench: ManagerBench) -> ManagerFigures:
    return ManagerFigures(bench.store, bench.board, bench.purse, bench.settings, bench.metrics, bench.clock, bench.log)


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
