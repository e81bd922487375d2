"""Advice from the manager's own history: the route, both clients and the command."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from helpers.domain.estate.prices import CardPrice, Prices
from helpers.domain.jobs.observation import Phase
from helpers.services.manager_advice import project_advice
from helpers.services.manager_money import Purse
from tests.fakes.jobs import NOON
from tests.fakes.manager import ManagerBench
from tests.manager.scene import BOB, Scene
from tests.manager.test_gpu_cli import Run, gpu
from tests.manager.test_sdk import either

__all__ = ["either", "gpu"]
PATH = "/api/v1/gpu/projects/vision/advice"


def worked(bench: ManagerBench, hours: float, *, lost: bool = False, **changes: object) -> str:
    """A job that held its cards so long, and then ended or lost its place."""
    job_id = bench.submit(**changes)
    bench.turn()
    bench.turn()
    bench.engine.see(job_id, Phase.RUNNING)
    bench.turn()
    bench.engine.see(job_id, Phase.PREEMPTED if lost else Phase.SUCCEEDED)
    bench.turn(hours * 3600)
    return job_id


def test_lost_work_is_what_was_done_since_the_last_checkpoint_at_most(tmp_path: Path, url: str) -> None:
    bench = ManagerBench(tmp_path, url=url)
    worked(bench, 2, lost=True, preemptible=True)
    worked(bench, 2, lost=True, preemptible=True, checkpoint={"signal": "SIGUSR1", "interval_seconds": 1800})
    now_at = bench.clock.now_at()
    (card,) = project_advice(bench.store, bench.purse, "vision", now_at - timedelta(days=7), now_at).cards
    assert card.mix is not None
    assert card.mix.why[0].startswith("with 62.5 % of the work redone")  # 2.5 of 4 hours


@pytest.mark.parametrize(
    ("asked", "gpu", "need_mib"),
    [
        ({"gpu_type": "A100", "gpu_memory_gb": 80}, "A100_80GB", 76_293),
        ({"gpu_type": "A100", "gpu_memory_gb": 80, "mig_profile": "1g.10gb"}, "A100_80GB", 9_536),
        ({"gpu_type": "T4", "gpu_memory_mib": 3000}, "T4_16GB", 3_000),
    ],
)
def test_the_need_is_what_was_asked_for(bench: ManagerBench, asked: dict[str, object], gpu: str, need_mib: int) -> None:
    worked(bench, 1, gpu_requirements=asked)
    now_at = bench.clock.now_at()
    (card,) = project_advice(bench.store, bench.purse, "vision", now_at - timedelta(days=7), now_at).cards
    assert (card.gpu, card.types[0].need_mib) == (gpu, need_mib)


@pytest.fixture
def bench(tmp_path: Path) -> ManagerBench:
    return ManagerBench(tmp_path)


def test_the_estates_own_prices_and_cards_are_in_the_table() -> None:
    own = CardPrice(gpu="RTX3090_24GB", usd_per_hour=Decimal("0.25"), source="our own", add_card=True)
    bill = CardPrice(gpu="A100_80GB", usd_per_hour=Decimal("3.1"), source="our bill")
    table = Purse(Prices(cards=(own, bill))).priced(NOON)
    assert (table.row("RTX3090_24GB").usd_per_gpu_hour, table.row("RTX3090_24GB").least_mib) == (
        Decimal("0.25"),
        22_888,
    )
    assert (table.row("A100_80GB").usd_per_gpu_hour, table.row("A100_80GB").source) == (Decimal("3.1"), "our bill")
    assert table.row("T4_16GB").usd_per_gpu_hour == Decimal("0.526")


def test_both_clients_get_it_and_say_what_is_not_known(either: Any, scene: Scene) -> None:
    worked(scene.bench, 2)
    found = either.advice("vision", reserved_discount_ratio=0.4)
    (card,) = found.cards
    assert (found.project_id, card.gpu, found.fixed_cluster.cards) == ("vision", "A100_80GB", {"A100_80GB": 1})
    assert found.cost_usd == Decimal("6.8618")
    assert card.reserved.cards_count is None
    assert "a week, 168, is the least" in card.reserved.why
    assert card.types[0].cheaper_gpu is None
    assert found.fixed_cluster.saved_ratio > 0.99


def test_a_project_that_may_not_be_listed_and_a_span_that_cannot_be_are_refused(scene: Scene) -> None:
    assert scene.send("GET", PATH, token=BOB).status_code == 403
    assert scene.send("GET", PATH).json()["fixed_cluster"]["why"] == "nothing was held"
    for query in ("from=2020-01-01T00:00:00Z", "from=2026-02-08T00:00:00", "reserved_discount_ratio=1"):
        assert scene.send("GET", f"{PATH}?{query}").status_code == 422, query


def test_the_command_says_it_in_words(gpu: Run, scene: Scene) -> None:
    worked(scene.bench, 2, gpu_requirements={"gpu_type": "A100", "gpu_memory_gb": 40})
    code, out, _ = gpu("advice", "vision", "--reserved-discount", "0.4")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].endswith("5.49 USD")
    assert " ".join(lines[1].split()) == "CARD GPU HOURS ON SPOT ADVISED ON SPOT THEN USD ALL ON DEMAND USD"
    assert lines[2].split() == ["A100_40GB", "2.00", "0.00", "0.00", "5.49", "5.49"]
    assert lines[-2] == (
        "A100_40GB, card for training: 1 x A100_40GB for 2.7447 USD an hour, for 38146 MiB; "
        "L40S_48GB has room for 1.8610"
    )
    assert lines[-1].startswith("Fixed cluster: 1 x A100_40GB all the time: ")
    assert gpu("advice", "text")[0] == 1
