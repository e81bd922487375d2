"""Where a job is told to save its state, and what its pods get for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from helpers.adapters.job_engines.documents import JobDocuments
from helpers.domain.estate.job_checkpoints import Checkpoints
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.settings import ManagerSettings, manager_settings
from lab.jobs import jobs_estate
from tests.fakes.jobs import job, spec

S3: dict[str, Any] = {"bucket": "saved", "prefix": "gpu/jobs"}


def settings(of_all: dict[str, Any] | None, of_vision: dict[str, Any] | None = None) -> ManagerSettings:
    found = manager_settings(jobs_estate())
    assert found is not None
    own = {"vision": read(of_vision)}
    projects = tuple(one.model_copy(update={"checkpoints": own.get(one.name)}) for one in found.projects)
    return found.model_copy(update={"checkpoints": read(of_all), "projects": projects})


def read(block: dict[str, Any] | None) -> Checkpoints | None:
    return Checkpoints.model_validate(block) if block is not None else None


def pod(of_all: dict[str, Any] | None, one: Job | None = None, of_vision: dict[str, Any] | None = None) -> Any:
    document = JobDocuments(settings(of_all, of_vision)).job(one or job())
    return document["spec"]["template"]["spec"]


def told(spec_of_pod: Any) -> dict[str, str]:
    names = ("GPUMEM_JOB_CHECKPOINT_PATH", "AWS_ENDPOINT_URL", "AWS_REGION")
    env = {one["name"]: one["value"] for one in spec_of_pod["containers"][0]["env"]}
    return {name: env[name] for name in names if name in env}


def test_a_claim_is_mounted_with_the_jobs_own_folder_of_it() -> None:
    found = pod({"claim": "saved", "mount_path": "/data/saved"})
    assert told(found) == {"GPUMEM_JOB_CHECKPOINT_PATH": "/data/saved"}
    assert found["volumes"] == [{"name": "checkpoints", "persistentVolumeClaim": {"claimName": "saved"}}]
    mount = {"name": "checkpoints", "mountPath": "/data/saved", "subPath": "gpu-job-1"}
    assert found["containers"][0]["volumeMounts"] == [mount]
    assert "serviceAccountName" not in found
    assert "envFrom" not in found["containers"][0]


@pytest.mark.parametrize("block", [{"claim": "saved"}, {"s3": S3}], ids=["claim", "s3"])
def test_every_attempt_has_the_same_place_and_every_job_another(block: dict[str, Any]) -> None:
    def place(one: Job) -> Any:
        found = pod(block, one)
        return told(found), found["containers"][0].get("volumeMounts")

    assert place(job()) == place(replace(job(), attempt_count=2))
    assert place(job()) != place(job("gpu-job-2"))


def test_a_bucket_is_a_path_of_keys_with_project_and_job() -> None:
    found = pod({"s3": {**S3, "endpoint_url": "http://minio.minio:9000", "region": "eu-1"}})
    assert told(found) == {
        "GPUMEM_JOB_CHECKPOINT_PATH": "s3://saved/gpu/jobs/vision/gpu-job-1",
        "AWS_ENDPOINT_URL": "http://minio.minio:9000",
        "AWS_REGION": "eu-1",
    }
    assert told(pod({"s3": {"bucket": "saved"}})) == {"GPUMEM_JOB_CHECKPOINT_PATH": "s3://saved/vision/gpu-job-1"}
    assert "volumes" not in found


def test_keys_come_from_a_secret_and_never_through_the_manager() -> None:
    found = pod({"s3": {**S3, "credentials_secret": "keys"}})
    assert found["containers"][0]["envFrom"] == [{"secretRef": {"name": "keys"}}]
    assert "serviceAccountName" not in found


def test_a_role_of_the_clouds_comes_with_an_account_whose_cluster_token_is_not_mounted() -> None:
    found = pod({"s3": {**S3, "service_account": "writer"}})
    assert (found["serviceAccountName"], found["automountServiceAccountToken"]) == ("writer", False)
    assert "envFrom" not in found["containers"][0]


def test_a_projects_own_place_is_in_place_of_everybodys() -> None:
    found = pod({"s3": S3}, of_vision={"claim": "visions"})
    assert told(found) == {"GPUMEM_JOB_CHECKPOINT_PATH": "/checkpoints"}
    text = pod({"s3": S3}, replace(job(), spec=spec(project_id="text")), of_vision={"claim": "visions"})
    assert told(text)["GPUMEM_JOB_CHECKPOINT_PATH"].startswith("s3://saved/gpu/jobs/text/")


def test_what_a_user_sets_wins() -> None:
    container = {"image": "registry.example.com/train:1", "env": {"GPUMEM_JOB_CHECKPOINT_PATH": "/mine"}}
    assert told(pod({"claim": "saved"}, job(spec=spec(container=container)))) == {"GPUMEM_JOB_CHECKPOINT_PATH": "/mine"}


def test_without_a_place_a_job_is_told_none() -> None:
    found = pod(None)
    assert told(found) == {}
    assert "volumes" not in found
    assert "volumeMounts" not in found["containers"][0]
