"""The queue drives the machines: what waits is let go while its pool may grow, and the real Karpenter makes nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster import Lab
from lab.jobs import LabManager, apply_job_platform, lab_manager, settings_of
from lab.karpenter import Adopter, Machine, karpenter
from lab.scaling import CARD_MIB, PROJECT, RESOURCE, apply_platform, delete_jobs, scaling_estate
from lab.waiting import wait_for
from tests.fakes.outside import FakeLog

pytestmark = pytest.mark.lab

MACHINE = Machine("g4dn.12xlarge", 4, 3.912)
LIMIT_COUNT = 8


@pytest.fixture
def adopter(platform_lab: Lab, karpenter_program: Path) -> Iterator[Adopter]:
    advertised = {RESOURCE: MACHINE.gpu_count * CARD_MIB}
    with karpenter(platform_lab, karpenter_program, [MACHINE], advertised) as adopter:
        yield adopter
        jobs = platform_lab.api().get(f"/apis/batch/v1/namespaces/{PROJECT}/jobs")["items"]
        delete_jobs(platform_lab.api(), jobs)
        wait_for(lambda: not adopter.nodes())


@pytest.fixture
def manager(platform_lab: Lab, adopter: Adopter, tmp_path: Path) -> Iterator[LabManager]:
    estate = scaling_estate([MACHINE], LIMIT_COUNT, empty_after_seconds=1)
    apply_job_platform(platform_lab, estate)
    apply_platform(platform_lab, estate)
    with lab_manager(platform_lab, settings_of(estate), f"sqlite:///{tmp_path}/jobs.db", FakeLog()) as one:
        yield one


def test_from_no_machine_to_the_pools_limit_and_no_further_until_one_ends(
    manager: LabManager, adopter: Adopter
) -> None:
    """Nobody waits for five minutes or for a pool that is nearly full: whose turn it is makes its machine at once."""
    assert adopter.nodes() == {}
    whole_machine = {"gpu": "T4", "memory_gb": None, "gpus": MACHINE.gpu_count, "seconds": None}
    jobs = [manager.submit(project=PROJECT, **whole_machine) for _ in range(3)]
    manager.until(lambda: manager.statuses(*jobs) == ["running", "running", "queued"])
    assert len(adopter.nodes()) == LIMIT_COUNT // MACHINE.gpu_count
    assert [manager.history(job) for job in jobs[:2]] == [["submitted", "queued", "provisioning", "running"]] * 2
    assert manager.history(jobs[2]) == ["submitted", "queued"]
    manager.desk.cancel(jobs[0], "alice")
    manager.until(lambda: manager.statuses(jobs[2]) == ["running"])
