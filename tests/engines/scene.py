"""What tests of engines look at, and do, in the lab."""

from __future__ import annotations

from typing import Any

from helpers.domain.estate.model import Estate
from lab.cluster import Lab


def remove_jobs(lab: Lab, estate: Estate) -> None:
    """Every Job of every project, and its pods."""
    assert estate.manager is not None
    for project in estate.manager.projects:
        base = f"/apis/batch/v1/namespaces/{project.name}/jobs"
        for job in lab.api().get(base)["items"]:
            lab.api().delete(f"{base}/{job['metadata']['name']}", {"propagationPolicy": "Background"})
        for pod in pods_of(lab, project.name):
            path = f"/api/v1/namespaces/{project.name}/pods/{pod['metadata']['name']}"
            lab.api().delete(path, {"gracePeriodSeconds": 0})


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
