"""What tests of engines look at, and do, in the lab."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from helpers.domain.estate.model import Estate
from lab.cluster import Lab
from lab.waiting import wait_for


def remove_jobs(lab: Lab, estate: Estate) -> None:
    """Every Job of every project, and its pods."""
    assert estate.manager is not None
    projects = estate.manager.projects
    for project in projects:
        base = f"/apis/batch/v1/namespaces/{project.name}/jobs"
        for job in lab.api().get(base)["items"]:
            lab.api().delete(f"{base}/{job['metadata']['name']}", {"propagationPolicy": "Background"})
        for pod in pods_of(lab, project.name):
            path = f"/api/v1/namespaces/{project.name}/pods/{pod['metadata']['name']}"
            lab.api().delete(path, {"gracePeriodSeconds": 0})
    # A Job's pods go when its controller has counted them.
    wait_for(lambda: not any(pods_of(lab, project.name) for project in projects))


def pods_of(lab: Lab, project: str) -> list[dict[str, Any]]:
    """The project's pods."""
    found: list[dict[str, Any]] = lab.api().get(f"/api/v1/namespaces/{project}/pods")["items"]
    return found


def job_object(lab: Lab, project: str, job_id: str) -> Any:
    """Its Job; None: there is none."""
    found = lab.api().get(f"/apis/batch/v1/namespaces/{project}/jobs")["items"]
    return next((one for one in found if one["metadata"]["name"] == job_id), None)


def evict(lab: Lab, pod: dict[str, Any]) -> None:
    """As a drained node does it."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    lab.api().post(f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", body)


@contextlib.contextmanager
def quota(lab: Lab, project: str, hard: Mapping[str, str]) -> Iterator[None]:
    """A ResourceQuota of the project beside its own, for a while; it is in force when the block begins."""
    path = f"/api/v1/namespaces/{project}/resourcequotas"
    body = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "of-a-test"},
        "spec": {"hard": dict(hard)},
    }
    lab.api().post(path, body)
    try:
        wait_for(lambda: lab.api().get(f"{path}/of-a-test").get("status", {}).get("hard"))
        yield
    finally:
        lab.api().delete(f"{path}/of-a-test")
