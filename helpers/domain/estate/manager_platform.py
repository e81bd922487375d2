"""The part of the `manager` block that becomes objects of the platform stack; the block itself inherits it."""

from __future__ import annotations

from pydantic import Field

from helpers.domain.estate.base import EstateModel
from helpers.domain.estate.job_priorities import JobPriorities
from helpers.domain.estate.mig import Mig
from helpers.domain.estate.node_pools import NodeClass, NodePool
from helpers.domain.estate.project_limits import ProjectQuota, Subject
from helpers.domain.estate.project_network import Network, NetworkPeer
from helpers.domain.estate.queues import Queues


class ProjectPlatform(EstateModel):
    """What a project's namespace gets besides its jobs."""

    create_namespace: bool = Field(default=True, description="false: the namespace stands, and is somebody else's.")
    quota: ProjectQuota | None = Field(default=None, description="The namespace's ceilings besides GPUs.")
    submitters: tuple[Subject, ...] = Field(
        default=(), strict=False, description="Who may submit, see and cancel the project's jobs."
    )
    viewers: tuple[Subject, ...] = Field(default=(), strict=False, description="Who may see the project's jobs.")
    egress: tuple[NetworkPeer, ...] = Field(
        default=(), strict=False, description="What this project's jobs reach besides network.egress."
    )


class ManagerPlatform(EstateModel):
    """Node pools, isolation, priorities and queues behind the jobs."""

    gpu_limit_count: int | None = Field(
        default=None,
        ge=1,
        description="GPUs that all node_pools may have together; the pools' limits must not exceed it.",
    )
    node_classes: tuple[NodeClass, ...] = Field(
        default=(), strict=False, description="What Karpenter's provider needs to make a machine."
    )
    node_pools: tuple[NodePool, ...] = Field(
        default=(), strict=False, description="Machines that Karpenter adds and removes. Absent: none is rendered."
    )
    node_overlays: bool = Field(
        default=True,
        description="Tell Karpenter (feature gate NodeOverlay) what a pool's machines advertise in MiB, so that a job "
        "that waits for MiB gets a machine.",
    )
    mig: Mig | None = Field(default=None, description="The MIG manager's configurations. Absent: none is rendered.")
    network: Network = Field(default_factory=Network, description="Isolation of the projects from each other.")
    priorities: JobPriorities | None = Field(
        default=None, description="PriorityClasses of jobs. Absent: pods of jobs have none. Engine kueue needs them."
    )
    queues: Queues = Field(default_factory=Queues, description="How kueue or volcano lend between projects.")
