"""The estate's `manager` block: projects that submit GPU jobs, and the engine that queues them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from helpers.domain.estate.base import DnsLabel
from helpers.domain.estate.manager_platform import ManagerPlatform, ProjectPlatform

Engine = Literal["native", "kueue", "volcano"]


class Project(ProjectPlatform):
    """One project: a namespace, its share of the cards and its people."""

    name: DnsLabel = Field(description="Unique; the project's namespace.")
    weight: int = Field(default=1, ge=1, le=1000, description="Its share where projects compete, against the others'.")
    gpu_quota_count: int | None = Field(
        default=None, ge=0, description="GPUs that its jobs may hold together; absent: no ceiling."
    )


class Manager(ManagerPlatform):
    """Who may run jobs, and what queues them."""

    engine: Engine = Field(default="native", description="What queues jobs: Kubernetes itself, Kueue or Volcano.")
    projects: tuple[Project, ...] = Field(min_length=1, strict=False, description="One entry a project.")
