"""The real Karpenter on the rendered pools: it makes machines for jobs that wait, and never takes a running job's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.api import Object
from lab.cluster import Lab
from lab.karpenter import GPU, Adopter, Machine, karpenter
from lab.scaling import (
    CARD_MIB,
    POOL,
    RESOURCE,
    apply_platform,
    create_jobs,
    delete_jobs,
    gpu_job,
    running_pods,
    scaling_estate,
)
from lab.waiting import wait_for

pytestmark = pytest.mark.lab

MACHINE = Machine("g4dn.12xlarge", 4, 3.912)
LIMIT_COUNT = 8
DISRUPTION = "karpenter.sh/do-not-disrupt"


@pytest.fixture(scope="module")
def adopter(platform_lab: Lab, karpenter_program: Path) -> Iterator[Adopter]:
    advertised = {RESOURCE: MACHINE.gpu_count * CARD_MIB}
    with karpenter(platform_lab, karpenter_program, [MACHINE], advertised) as adopter:
        apply_platform(platform_lab, scaling_estate([MACHINE], LIMIT_COUNT, empty_after_seconds=1))
        yield adopter


@pytest.fixture(autouse=True)
def _no_machine_is_left(platform_lab: Lab, adopter: Adopter) -> Iterator[None]:
    yield
    jobs = platform_lab.api().get("/apis/batch/v1/namespaces/scale/jobs")["items"]
    delete_jobs(platform_lab.api(), jobs)
    wait_for(lambda: not adopter.nodes())


def jobs(count: int, resources: dict[str, str]) -> list[Object]:
    return [gpu_job(f"job-{index}", resources) for index in range(count)]


def test_machines_come_for_waiting_jobs_up_to_the_limit_and_go_with_them(platform_lab: Lab, adopter: Adopter) -> None:
    api = platform_lab.api()
    asked = jobs(3, {GPU: str(MACHINE.gpu_count)})
    create_jobs(api, asked)
    wait_for(lambda: len(running_pods(api)) == 2)
    nodes = adopter.nodes()
    assert len(nodes) == LIMIT_COUNT // MACHINE.gpu_count
    for node in nodes.values():
        labels, taints = node["metadata"]["labels"], node["spec"]["taints"]
        assert labels["karpenter.sh/nodepool"] == POOL
        assert labels["karpenter.sh/capacity-type"] == "spot"  # both may be bought
        assert {"key": GPU, "value": "true", "effect": "NoSchedule"} in taints
    delete_jobs(api, asked)
    wait_for(lambda: not adopter.nodes())


def test_a_job_that_waits_for_mib_gets_a_machine_once_karpenter_knows_of_the_mib(
    platform_lab: Lab, adopter: Adopter
) -> None:
    api, overlay = platform_lab.api(), "/apis/karpenter.sh/v1alpha1/nodeoverlays/gpumem-scale"
    assert api.delete(overlay)
    create_jobs(api, jobs(1, {RESOURCE: "9000"}))
    wait_for(lambda: refusals(platform_lab))
    assert not adopter.nodes()
    apply_platform(platform_lab, scaling_estate([MACHINE], LIMIT_COUNT, empty_after_seconds=1))
    (pod,) = wait_for(lambda: running_pods(api))
    assert pod["spec"]["nodeName"] in adopter.nodes()


def refusals(platform_lab: Lab) -> list[Object]:
    """Karpenter's own word on pods for which it makes no machine."""
    events: list[Object] = platform_lab.api().get("/api/v1/namespaces/scale/events")["items"]
    return [
        event
        for event in events
        if event["source"].get("component") == "karpenter"
        and event["reason"] == "FailedScheduling"
        and RESOURCE in event["message"]
    ]


def test_a_running_job_outlives_the_age_of_its_machine(platform_lab: Lab, adopter: Adopter) -> None:
    api = platform_lab.api()
    pool = f"/apis/karpenter.sh/v1/nodepools/{POOL}"
    api.patch(pool, {"spec": {"template": {"spec": {"expireAfter": "45s"}}}})
    kept, plain = jobs(2, {GPU: str(MACHINE.gpu_count)})
    del plain["spec"]["template"]["metadata"]["annotations"][DISRUPTION]
    plain["spec"]["backoffLimit"] = 6
    try:
        create_jobs(api, [kept, plain])
        first = {name(pod): pod for pod in wait_for(lambda: both_run(platform_lab))}
        # The control: the job without the mark loses its pod to its machine's age.
        lost = next(one for one in first if one.startswith("job-1-"))
        wait_for(lambda: lost not in {name(pod) for pod in running_pods(api)})
        stays = next(one for one in first if one.startswith("job-0-"))
        machine = first[stays]["spec"]["nodeName"]
        wait_for(lambda: adopter.nodes()[machine]["metadata"].get("deletionTimestamp"))
        # Every machine is past its age now; the marked job runs on, on the machine that it began on.
        assert stays in {name(pod) for pod in running_pods(api)}
        delete_jobs(api, [kept])
        wait_for(lambda: machine not in adopter.nodes())
    finally:
        api.patch(pool, {"spec": {"template": {"spec": {"expireAfter": "Never"}}}})


def both_run(platform_lab: Lab) -> list[Object]:
    found = running_pods(platform_lab.api())
    return found if len(found) == 2 else []


def name(pod: Object) -> str:
    return str(pod["metadata"]["name"])
