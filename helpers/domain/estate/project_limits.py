"""What a project may have at most, and who may submit jobs in it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from helpers.domain.estate.base import DnsLabel, EstateModel, UpstreamBlock, broken_rule

REQUESTS = "requests."
LIMITS = "limits."


class Subject(EstateModel):
    """A person, group or program, in the spelling of a RoleBinding's subjects."""

    kind: Literal["User", "Group", "ServiceAccount"] = Field(description="What it is.")
    name: str = Field(min_length=1, description="Its name, as the API server knows it.")
    namespace: DnsLabel | None = Field(
        default=None, description="ServiceAccount only; absent: the project's own namespace."
    )

    @model_validator(mode="after")
    def _people_have_no_namespace(self) -> Subject:
        if self.namespace is not None and self.kind != "ServiceAccount":
            raise broken_rule(
                "only a ServiceAccount lives in a namespace",
                "remove namespace, or use kind: ServiceAccount",
                at="namespace",
            )
        return self


class ProjectQuota(EstateModel):
    """The namespace's ResourceQuota besides the GPUs, which gpu_quota_count says."""

    hard: UpstreamBlock = Field(
        description="Kubernetes's spelling: requests.cpu, requests.memory, … A quota on cpu or memory makes every pod "
        "of the namespace declare it."
    )


def inert(key: str) -> bool:
    """Whether a ResourceQuota accepts `key` and then does nothing with it.

    Of an extended resource only `requests.<name>` is enforced (pkg/quota/v1/evaluator/core/pods.go);
    `limits.<name>` and the bare name are stored and never counted.
    """
    if "storageclass.storage.k8s.io/" in key or key.startswith(("count/", REQUESTS)):
        return False
    return "/" in key
