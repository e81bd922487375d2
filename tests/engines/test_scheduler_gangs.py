"""The scheduler's own gangs (PodGroup, alpha in 1.36), on a lab with its gates on.

The manager lets a gang go when all its workers find room; between that and the placing somebody else may take
some of it. Then the scheduler places none of them, where without it those that fit would start.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.domain.estate.model import Estate
from helpers.domain.jobs.settings import ManagerSettings
from lab import cluster
from lab.cluster import Lab
from lab.jobs import apply_job_platform, job_nodes, lab_manager, settings_of
from lab.waiting import wait_for
from tests.engines.scene import pods_of
from tests.fakes.outside import FakeLog

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def gang_lab(tmp_path_factory: pytest.TempPathFactory, job_estate: Estate) -> Iterator[Lab]:
    root: Path = tmp_path_factory.mktemp("gang-labs")
    nodes = [node for node in job_nodes(job_estate) if node.name == "l40s"]
    try:
        found = cluster.up("gangs", nodes, root, print, gang_scheduling=True)
        apply_job_platform(found, job_estate)
        yield found
    finally:
        cluster.down("gangs", root)


def intruder(lab: Lab) -> None:
    """Somebody who is no job of the manager's takes a card."""
    container = {"name": "main", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    body = {"metadata": {"name": "intruder"}, "spec": {"containers": [container]}}
    pods = "/api/v1/namespaces/vision/pods"
    wait_for(lambda: lab.api().get("/api/v1/namespaces/vision/serviceaccounts")["items"])
    lab.api().post(pods, body)
    wait_for(lambda: lab.api().get(f"{pods}/intruder")["spec"].get("nodeName"))


def placed(lab: Lab) -> list[Any]:
    return [pod for pod in pods_of(lab, "text") if pod["spec"].get("nodeName")]


def was_tried(pod: dict[str, Any]) -> bool:
    return any(one["type"] == "PodScheduled" for one in pod.get("status", {}).get("conditions", ()))


def let_go_gang(lab: Lab, settings: ManagerSettings, folder: Path) -> list[int]:
    """A gang of eight on seven cards, which the manager believes to be eight; how many were placed, then with eight."""
    intruder(lab)
    with lab_manager(lab, settings, f"sqlite:///{folder}/jobs.db", FakeLog()) as manager:
        gang = manager.submit(project="text", gpu="L40S", memory_gb=None, seconds=None, workers=8)
        manager.until(lambda: len(pods_of(lab, "text")) == 8)
        if settings.scheduler_gangs:
            time.sleep(3)  # of a gang it may say so of one pod only; whoever fits were placed by then
        else:
            wait_for(lambda: all(map(was_tried, pods_of(lab, "text"))))
        first = len(placed(lab))
        lab.api().delete("/api/v1/namespaces/vision/pods/intruder", {"gracePeriodSeconds": 0})
        manager.until(lambda: manager.statuses(gang) == ["running"])
        second = len(placed(lab))
        manager.desk.cancel(gang, "alice")
        manager.loop.turn()
        wait_for(lambda: not pods_of(lab, "text"))
    return [first, second]


@pytest.mark.parametrize(("scheduler_gangs", "found"), [(True, [0, 8]), (False, [7, 8])])
def test_a_place_that_somebody_takes_in_between(
    gang_lab: Lab, job_estate: Estate, tmp_path: Path, scheduler_gangs: bool, found: list[int]
) -> None:
    settings = settings_of(job_estate).model_copy(update={"scheduler_gangs": scheduler_gangs})
    assert let_go_gang(gang_lab, settings, tmp_path) == found
