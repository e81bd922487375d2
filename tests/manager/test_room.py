"""What the loop does where nodes have no room, where spot is gone, and with objects whose job is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.domain.jobs.observation import Phase
from tests.fakes.jobs import A100
from tests.fakes.manager import ManagerBench


@pytest.fixture
def bench(tmp_path: Path) -> ManagerBench:
    return ManagerBench(tmp_path)


def test_a_job_without_room_on_the_nodes_waits_and_keeps_what_it_was_given(bench: ManagerBench) -> None:
    bench.engine.pools = {A100: 8}
    wide = bench.submit(gpu_requirements={"gpu_type": "A100", "gpu_memory_gb": 80, "gpu_count": 8})
    bench.engine.without_room = {wide: "no node has 8 free"}
    small = bench.submit()
    bench.turn()
    bench.turn()
    assert [bench.job(one).status for one in (wide, small)] == ["queued", "queued"]
    assert [line["reason"] for line in bench.log.of("job_lacks_room")] == ["no node has 8 free"]
    bench.engine.without_room = {}
    bench.turn()
    assert [bench.job(one).status for one in (wide, small)] == ["provisioning", "queued"]


def test_where_there_is_no_spot_machine_a_job_goes_on_with_on_demand(bench: ManagerBench) -> None:
    one = bench.submit(preemptible=True)
    bench.engine.without_room = {one: "no spot"}
    bench.engine.without_capacity = {"spot"}
    bench.turn()
    assert bench.job(one).capacity == "on-demand"
    bench.engine.without_room = {}
    bench.turn()
    assert bench.history(one) == ["submitted", "queued", "capacity", "provisioning"]


def test_a_busy_spot_machine_is_waited_for(bench: ManagerBench) -> None:
    one = bench.submit(preemptible=True)
    bench.engine.without_room = {one: "all are taken"}
    bench.turn()
    bench.turn()
    assert (bench.job(one).capacity, bench.job(one).status) == ("spot", "queued")


@pytest.mark.parametrize(("phase", "removed_count"), [(Phase.RUNNING, 2), (Phase.HELD, 2), (Phase.SUCCEEDED, 1)])
def test_objects_that_outlive_their_job_are_removed(bench: ManagerBench, phase: Phase, removed_count: int) -> None:
    one = bench.submit()
    bench.turn()
    bench.desk.cancel(one, "alice")
    bench.turn()
    assert bench.engine.done("remove") == [one]
    bench.engine.see(one, phase)  # a leader that was held up made them afterwards
    bench.turn()
    assert len(bench.engine.done("remove")) == removed_count


def test_objects_of_a_job_that_nobody_knows_are_left_alone_and_named(bench: ManagerBench) -> None:
    bench.engine.see("gpu-job-of-another-database", Phase.RUNNING)
    bench.turn()
    bench.turn()
    assert bench.engine.done("remove") == []
    assert bench.log.of("objects_of_no_job") == [{"job_id": "gpu-job-of-another-database"}]


def test_a_job_that_can_never_start_gives_its_cards_back(bench: ManagerBench) -> None:
    one = bench.submit()
    bench.turn()
    bench.engine.see(one, Phase.FAILED, "ImagePullBackOff")
    bench.engine.jobs[one] = bench.engine.jobs[one].__class__(Phase.FAILED, "ImagePullBackOff", hopeless=True)
    bench.turn()
    bench.turn()
    assert bench.job(one).status == "failed"
    assert bench.engine.done("remove") == [one]


def test_acts_are_counted(bench: ManagerBench) -> None:
    one = bench.submit()
    bench.turn()
    bench.desk.cancel(one, "alice")
    bench.turn()
    assert bench.metrics.acts == {"made": 1, "let_go": 1, "removed": 1}
