"""What the loop does where nodes have no room, where spot is gone, and with objects whose job is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.domain.jobs.gpus import Pool
from helpers.domain.jobs.observation import Phase
from helpers.domain.jobs.room import PoolRooms, Room
from tests.fakes.jobs import A100
from tests.fakes.manager import ManagerBench

WISH = {"gpu_type": "A100", "gpu_memory_gb": 80}


@pytest.fixture
def bench(tmp_path: Path) -> ManagerBench:
    return ManagerBench(tmp_path)


def nodes(*rooms: Room) -> dict[Pool, PoolRooms]:
    return {A100: PoolRooms(rooms)}


def test_a_job_without_room_on_the_nodes_waits_and_its_node_is_kept(bench: ManagerBench) -> None:
    """Eight are free, four on each node. Who ends before a node is whole goes, and who does not, goes elsewhere."""
    busy = [bench.submit(gpu_requirements=WISH | {"gpu_count": 4}, max_duration_hours=hours) for hours in (1, 9)]
    bench.engine.pools = {A100: 16}
    bench.turn()
    bench.engine.nodes = nodes(*(Room(8, held={job_id: 4}, name=name) for job_id, name in zip(busy, "ab", strict=True)))
    wide = bench.submit(project_id="text", gpu_requirements=WISH | {"gpu_count": 8})
    short, long = (bench.submit(max_duration_hours=hours) for hours in (0.5, 9))
    bench.turn()
    bench.turn()
    assert [bench.job(one).status for one in (wide, short, long)] == ["queued", "provisioning", "provisioning"]
    assert (bench.engine.avoided[short], bench.engine.avoided[long]) == (frozenset(), frozenset("a"))
    text = "1 of its 1 workers find no node with 8 of A100_80GB free on on-demand capacity"
    assert [line["reason"] for line in bench.log.of("job_lacks_room")] == [text]
    bench.engine.nodes = nodes(Room(8, name="a"), Room(8, held={busy[1]: 4}, name="b"))
    bench.turn()
    assert bench.job(wide).status == "provisioning"


def test_a_busy_spot_node_keeps_no_on_demand_card_back(bench: ManagerBench) -> None:
    bench.engine.pools = {A100: 16}
    bench.engine.nodes = nodes(Room(8, spot=True, held={"x": 8}, name="spot"), Room(8, name="on-demand"))
    first = bench.submit(preemptible=True, gpu_requirements=WISH | {"gpu_count": 8})
    small = bench.submit()
    bench.turn()
    assert [bench.job(one).status for one in (first, small)] == ["queued", "provisioning"]


def test_where_there_is_no_spot_machine_a_job_goes_on_with_on_demand(bench: ManagerBench) -> None:
    bench.engine.nodes = nodes(Room(8))
    one = bench.submit(preemptible=True)
    bench.turn()
    assert bench.job(one).capacity == "on-demand"
    bench.turn()
    assert bench.history(one) == ["submitted", "queued", "capacity", "provisioning"]


def test_a_busy_spot_machine_is_waited_for(bench: ManagerBench) -> None:
    bench.engine.nodes = nodes(Room(8, spot=True, held={"x": 8}), Room(8))
    one = bench.submit(preemptible=True)
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
