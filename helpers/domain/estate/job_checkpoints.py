"""Where jobs keep what they save: a volume of their project, or an object store. It outlives their pods."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from helpers.domain.estate.base import DnsSubdomain, EstateModel, broken_rule
from helpers.domain.estate.texts import HttpUrl


def _folder(value: str) -> str:
    if any(part in ("", ".", "..") for part in value.split("/")[1:]):
        raise broken_rule("a folder's absolute path, spelled in one way", "write it like /checkpoints")
    return value


def _prefix(value: str) -> str:
    if value.startswith("/") or value.endswith("/"):
        inner = value.strip("/")
        repair = f"write {inner}" if inner else "remove it: without one, keys begin with the project"
        raise broken_rule("what keys begin with, without a slash at either end", repair)
    return value


class S3(EstateModel):
    """A bucket, and as whom a job writes to it. No key stands here."""

    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="The bucket's name.")
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9!_.*'()/-]*$", max_length=256), AfterValidator(_prefix)] = Field(
        default="", description="What all keys begin with; project and job follow."
    )
    endpoint_url: HttpUrl | None = Field(
        default=None, description="The store's address, told as AWS_ENDPOINT_URL. Absent: Amazon's own."
    )
    region: str | None = Field(
        default=None, pattern=r"^[a-z0-9-]{1,64}$", description="Told as AWS_REGION. Absent: nothing is told."
    )
    credentials_secret: DnsSubdomain | None = Field(
        default=None,
        description="A Secret of the project's namespace whose keys become variables: AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY. Every job of the project gets them.",
    )
    service_account: DnsSubdomain | None = Field(
        default=None,
        description="Instead of a Secret: a ServiceAccount of the project's namespace to which the cloud gives a role. "
        "Absent, both: the machine's own rights.",
    )

    @model_validator(mode="after")
    def _one_identity(self) -> S3:
        if self.credentials_secret is not None and self.service_account is not None:
            raise broken_rule(
                "a job writes as one: a key wins over a role wherever both are told",
                "keep credentials_secret or service_account",
                at="service_account",
            )
        return self


class Checkpoints(EstateModel):
    """Each job has a folder, or a key prefix, of its own in it: the same on every attempt."""

    claim: DnsSubdomain | None = Field(
        default=None,
        description="A PersistentVolumeClaim of the project's namespace, which somebody has made; ReadWriteMany where "
        "jobs run on several machines.",
    )
    mount_path: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]{1,255}$"), AfterValidator(_folder)] = Field(
        default="/checkpoints", description="claim: where a job finds its folder."
    )
    s3: S3 | None = Field(default=None, description="Instead of a claim: an object store that speaks S3.")

    @model_validator(mode="after")
    def _one_place(self) -> Checkpoints:
        if (self.claim is None) == (self.s3 is None):
            raise broken_rule("checkpoints have one place: a claim, or s3", "give exactly one of the two")
        if self.s3 is not None and "mount_path" in self.model_fields_set:
            raise broken_rule("only a claim is mounted", "remove mount_path", at="mount_path")
        return self
