"""Where a job saves its state, as its pods see it: a folder of a mounted claim, or a key prefix of a bucket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helpers.domain import names
from helpers.domain.estate.job_checkpoints import Checkpoints
from helpers.domain.jobs.job import Job

VOLUME = "checkpoints"


def told(place: Checkpoints | None, job: Job) -> Mapping[str, str]:
    """Variables; none where the project has no place."""
    if place is None:
        return {}
    if place.s3 is None:
        return {names.ENV_JOB_CHECKPOINT_PATH: place.mount_path}
    keys = [place.s3.bucket, *([place.s3.prefix] if place.s3.prefix else []), job.project_id, job.job_id]
    where = {"AWS_ENDPOINT_URL": place.s3.endpoint_url, "AWS_REGION": place.s3.region}
    path = {names.ENV_JOB_CHECKPOINT_PATH: f"s3://{'/'.join(keys)}"}
    return {**path, **{name: value for name, value in where.items() if value is not None}}


def container_parts(place: Checkpoints | None, job: Job) -> dict[str, Any]:
    """What the container has besides its variables."""
    if place is not None and place.claim is not None:
        # The kubelet makes the folder; an attempt that comes later finds it as it was left.
        return {"volumeMounts": [{"name": VOLUME, "mountPath": place.mount_path, "subPath": job.job_id}]}
    if place is not None and place.s3 is not None and place.s3.credentials_secret is not None:
        return {"envFrom": [{"secretRef": {"name": place.s3.credentials_secret}}]}
    return {}


def pod_parts(place: Checkpoints | None) -> dict[str, Any]:
    """What the pod has for it."""
    if place is not None and place.claim is not None:
        return {"volumes": [{"name": VOLUME, "persistentVolumeClaim": {"claimName": place.claim}}]}
    if place is not None and place.s3 is not None and place.s3.service_account is not None:
        return {"serviceAccountName": place.s3.service_account}
    return {}
