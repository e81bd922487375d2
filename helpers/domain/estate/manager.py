"""The estate's `manager` block: who may run GPU jobs, on which engine, within which limits."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from helpers.domain.errors import Problem
from helpers.domain.estate.base import DnsLabel, DnsSubdomain
from helpers.domain.estate.budget_alerts import BudgetAlerts, budget_alert_problems
from helpers.domain.estate.coordinator import SecretKey, VariableName
from helpers.domain.estate.job_checkpoints import Checkpoints
from helpers.domain.estate.manager_platform import ManagerPlatform, ProjectPlatform
from helpers.domain.estate.prices import Prices
from helpers.domain.estate.texts import HttpUrl

if TYPE_CHECKING:
    from helpers.domain.estate.model import Estate


class Project(ProjectPlatform):
    """A project that may run jobs. It is a namespace of the cluster."""

    name: DnsLabel = Field(description="Unique; the namespace in which its jobs run.")
    weight: float = Field(
        default=1.0, gt=0, le=1000, description="Its part of the cards, against the other projects' weights."
    )
    gpu_quota_count: int | None = Field(
        default=None, ge=0, le=100_000, description="Cards that all its jobs may hold at once. Absent: no ceiling."
    )
    budget_usd_per_month: Annotated[Decimal, Field(strict=False, gt=0)] | None = Field(
        default=None, description="Spending beyond 80 % of it raises an alert. Absent: no budget."
    )
    checkpoints: Checkpoints | None = Field(
        default=None, description="Where its jobs save their state, in place of the manager's checkpoints."
    )


class Manager(ManagerPlatform):
    """GPU jobs: submitted by API, queued and let go by an engine. Absent: there is no manager."""

    engine: Literal["native", "kueue", "volcano"] = Field(
        default="native",
        description="What queues jobs. native: batch/v1 Jobs, held suspended until their turn. "
        "kueue, volcano: that project's own queues; it must be installed.",
    )
    policy: Literal["fifo", "priority", "fair_share"] = Field(
        default="fair_share", description="native only: the order of turns. fair_share heeds priorities, too."
    )
    scheduler_gangs: bool = Field(
        default=False,
        description="native only: each job with workers is a PodGroup of the scheduler's own, so that nobody else can "
        "take a place between two of its pods. Alpha in 1.36: feature gates GenericWorkload and GangScheduling.",
    )
    projects: tuple[Project, ...] = Field(min_length=1, strict=False, description="Who may run jobs.")
    prices: Prices = Field(default_factory=Prices, description="What cards cost.")
    budget_alerts: BudgetAlerts | None = Field(
        default=None, description="Messages to people about projects' budgets. Absent: Prometheus's alerts alone."
    )
    replicas: int = Field(default=2, ge=1, le=10, description="Pods that serve the API; one of them runs the loops.")
    database_url_env: VariableName = Field(
        default="GPUMEM_DATABASE_URL", description="The variable that holds the database's URL, password included."
    )
    database_secret: SecretKey | None = Field(
        default=None, description="The Secret from which a Deployment fills that variable. Absent: it does not."
    )
    max_duration_hours: float = Field(
        default=24.0, gt=0, le=720, description="A job that says nothing is stopped after it."
    )
    prometheus_url: HttpUrl | None = Field(
        default=None,
        description="The Prometheus that scrapes the exporter (or DCGM's): what jobs do with their GPUs. "
        "Absent: nobody knows, and no job is idle.",
    )
    idle_ratio: float = Field(default=0.05, ge=0, lt=1, description="A job whose busiest GPU does less is idle.")
    idle_seconds: int = Field(default=1800, ge=60, le=86_400, description="A job idle for so long is stopped.")
    aging_hours: float = Field(
        default=4.0, gt=0, le=720, description="After waiting so long a job counts as one priority higher, and so on."
    )
    spot_retries: int = Field(
        default=3, ge=0, le=100, description="How often an interrupted job is tried on spot capacity again."
    )
    checkpoints: Checkpoints | None = Field(
        default=None,
        description="Where jobs save their state, in every project that says nothing else. Absent: they are told none.",
    )
    audience: str = Field(
        default="", description="The audience that callers' tokens must be meant for; absent: the API server's own."
    )
    tls_secret: DnsSubdomain | None = Field(
        default=None, description="A Secret of kubernetes.io/tls with which the API is served; absent: plain HTTP."
    )


def manager_problems(estate: Estate) -> Iterator[Problem]:
    """What the block and the rest of the estate must agree on; none where there is no such block."""
    block = estate.manager
    if block is None:
        return
    seen: set[str] = set()
    for index, project in enumerate(block.projects):
        path = f"manager.projects[{index}].name"
        if project.name in seen:
            rule = "a project is declared once"
            yield Problem(path, project.name, rule, "remove one of the two")
        if project.name.startswith("kube-") or project.name in ("default", estate.namespace, "gpu-system"):
            rule = "a project's namespace holds its own jobs and nothing of the cluster's or of this project's"
            yield Problem(path, project.name, rule, "give the project a namespace of its own")
        seen.add(project.name)
    if block.engine != "native" and block.policy != "fair_share":
        rule = f"with engine: {block.engine} the order is that engine's own, so policy would do nothing"
        yield Problem("manager.policy", block.policy, rule, "remove policy, or use engine: native")
    if block.scheduler_gangs and (block.engine != "native" or estate.kubernetes.version != "1.36"):
        rule = (
            "the scheduler's PodGroup of scheduling.k8s.io/v1alpha2 is in Kubernetes 1.36 alone, and engine: native's"
        )
        yield Problem("manager.scheduler_gangs", "true", rule, "remove it: gangs are let go as a whole anyway")
    yield from _unreached_stores(block)
    yield from budget_alert_problems(block)


def _unreached_stores(block: Manager) -> Iterator[Problem]:
    """An object store is outside the project, and an isolated project reaches nothing outside but what is named."""
    if not block.network.isolated or block.network.egress:
        return
    for index, project in enumerate(block.projects):
        place = project.checkpoints or block.checkpoints
        if place is not None and place.s3 is not None and not project.egress:
            rule = f"jobs of {project.name} save to the bucket {place.s3.bucket} and reach nothing outside the project"
            repair = "name the store under manager.network.egress, or the project's egress"
            yield Problem(f"manager.projects[{index}].egress", "", rule, repair, severity="warning")
