"""What the manager decides by: the document that its Deployment mounts."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict

from helpers.domain.estate.budget_alerts import BudgetAlerts
from helpers.domain.estate.job_checkpoints import Checkpoints
from helpers.domain.estate.job_priorities import WORDS
from helpers.domain.estate.manager import Manager, Project
from helpers.domain.estate.model import Estate
from helpers.domain.estate.prices import Prices
from helpers.domain.jobs.limits import LimitRules
from helpers.domain.jobs.ordering import Policy, Rules
from helpers.domain.jobs.places import Place, places_of


class ManagerSettings(BaseModel):
    """All of it. Nothing here is secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["native", "kueue", "volcano"] = "native"
    policy: Policy = Policy.FAIR_SHARE
    projects: tuple[Project, ...]
    prices: Prices = Prices()
    budget_alerts: BudgetAlerts | None = None
    database_url_env: str = "GPUMEM_DATABASE_URL"
    max_duration_hours: float = 24.0
    prometheus_url: str | None = None
    idle_ratio: float = 0.05
    idle_seconds: int = 1800
    aging_hours: float = 4.0
    spot_retries: int = 3
    checkpoints: Checkpoints | None = None
    audience: str = ""
    tls_secret: str | None = None
    resource: str = ""
    """The extended resource that carries MiB, for jobs on shared cards."""

    label_prefix: str = ""
    runtime_class: str = ""
    """Of jobs' pods; empty: the cluster's own."""

    places: tuple[Place, ...] = ()
    """The estate's nodes, as far as jobs may ask for them. Empty: nothing is known, and nothing is refused."""

    priority_classes: dict[str, str] = {}
    """`{high, medium, low: PriorityClass}`; empty: pods of jobs have none."""

    may_preempt: bool = False
    """Whether one of these classes may take a running job's place."""

    scheduler_gangs: bool = False
    """native: jobs with workers are PodGroups of the scheduler's own."""

    provisioning_class: str = ""
    """kueue: admission waits for a ProvisioningRequest of this class."""

    @property
    def offers_spot(self) -> bool:
        """Whether a job that may be interrupted can get spot capacity. Where nothing is known, it can."""
        return not self.places or any(place.offers_spot for place in self.places)

    def physical_mib(self) -> dict[str, int]:
        """`{card's price key: MiB of one card}` of the estate's cards; of cards of one name that differ, the larger."""
        found: dict[str, int] = {}
        for place in self.places:
            if place.physical_mib:
                key = place.pool.price_key
                found[key] = max(place.physical_mib, found.get(key, 0))
        return found

    def project(self, name: str) -> Project | None:
        """The project of that name; None: it may run no jobs."""
        return next((project for project in self.projects if project.name == name), None)

    def checkpoints_of(self, project: str) -> Checkpoints | None:
        """Where jobs of `project` save their state; None: wherever they know to."""
        own = self.project(project)
        return (own.checkpoints if own is not None else None) or self.checkpoints

    def budgets_usd(self) -> dict[str, Decimal]:
        """`{project: what it may spend in a month}` of those that have a budget."""
        return {p.name: p.budget_usd_per_month for p in self.projects if p.budget_usd_per_month is not None}

    def rules(self) -> Rules:
        """How turns are ordered."""
        return Rules(
            policy=self.policy,
            weights={project.name: project.weight for project in self.projects},
            quotas={p.name: float(p.gpu_quota_count) for p in self.projects if p.gpu_quota_count is not None},
            aging_seconds=self.aging_hours * 3600,
        )

    def limits(self) -> LimitRules:
        """What stops jobs."""
        return LimitRules(
            max_duration_hours=self.max_duration_hours,
            idle_ratio=self.idle_ratio,
            idle_seconds=float(self.idle_seconds),
        )


def manager_settings(estate: Estate) -> ManagerSettings | None:
    """The settings of a valid `estate`; None where it declares no manager."""
    block = estate.manager
    if block is None:
        return None
    return ManagerSettings(
        engine=block.engine,
        policy=Policy(block.policy),
        projects=block.projects,
        prices=block.prices,
        budget_alerts=block.budget_alerts,
        database_url_env=block.database_url_env,
        max_duration_hours=block.max_duration_hours,
        prometheus_url=block.prometheus_url,
        idle_ratio=block.idle_ratio,
        idle_seconds=block.idle_seconds,
        aging_hours=block.aging_hours,
        spot_retries=block.spot_retries,
        checkpoints=block.checkpoints,
        audience=block.audience,
        tls_secret=block.tls_secret,
        resource=estate.resource,
        label_prefix=estate.label_prefix,
        runtime_class=estate.runtime_class.name,
        places=places_of(estate, block),
        priority_classes=_classes(block),
        may_preempt=may_preempt(estate, block),
        scheduler_gangs=block.scheduler_gangs,
        provisioning_class=block.queues.provisioning_class or "",
    )


def may_preempt(estate: Estate, manager: Manager) -> bool:
    """Whether a waiting job may take a running one's place: where one of its priority classes may evict."""
    used = set(_classes(manager).values())
    return any(item.preempt for item in estate.priority_classes if item.name in used)


def _classes(manager: Manager) -> dict[str, str]:
    return {word: manager.priorities.class_of(word) for word in WORDS} if manager.priorities else {}
