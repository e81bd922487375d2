"""What the manager's API answers: the field's reference's names, and what goes beyond them.

The manager writes them and the SDK reads them. Nobody else's: a request is a `JobSpec`.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from helpers.domain.jobs.spec import Container, GpuRequirements, Priority, Resources
from helpers.domain.jobs.states import JobStatus

# Exact in here, a JSON number outside, as the reference shows it.
Usd = Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json-unless-none")]


class View(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ProblemView(View):
    """One thing wrong with a request."""

    place: str
    value: str
    rule: str
    repair: str


class Errors(View):
    """Every refusal has this form."""

    errors: list[ProblemView]


class EstimateView(View):
    """How sure the estimates are, and what they rest on."""

    start_confidence: str = Field(description="high, medium, low, or none: no start is told.")
    start_basis: str
    cost_confidence: str = Field(description="high, medium, low, or none: no cost is told.")
    cost_basis: str
    cost_low_usd: Usd | None = None
    cost_high_usd: Usd | None = None


class JobSubmitted(View):
    """The answer to a submit."""

    job_id: str
    status: JobStatus
    queue_position: int | None = Field(description="1 is next; null once it has its GPUs.")
    estimated_start_time: datetime | None = Field(description="null: nobody can tell, see estimate.")
    estimated_cost_usd: Usd | None = Field(description="The likely cost, else the highest that its limits allow.")
    created_at: datetime
    estimate: EstimateView


class JobView(JobSubmitted):
    """A job."""

    job_name: str
    project_id: str
    priority: Priority
    gpu_requirements: GpuRequirements
    container: Container
    resources: Resources
    budget_limit_usd: Usd | None
    max_duration_hours: float | None
    preemptible: bool
    workers: int
    submitted_by: str
    started_at: datetime | None = Field(description="When its present attempt got its GPUs.")
    ended_at: datetime | None
    attempt_count: int
    capacity_type: str
    gpu_seconds: float = Field(description="Cards times the time over which they were held, all attempts.")
    cost_usd: Usd = Field(description="What it has cost until now; where a price is unknown, at least this.")
    reason: str = Field(description="Why it is in its state.")


class JobList(View):
    """A page of jobs, newest first."""

    jobs: list[JobView]
    next_cursor: str = Field(description="For the next page; empty: this is the last.")


class EventView(View):
    """An entry of a job's history."""

    sequence: int
    job_id: str
    at: datetime
    kind: str
    message: str
    actor: str


class EventList(View):
    """History, oldest first. Ask again with `after` = the last sequence."""

    events: list[EventView]


class AuditView(View):
    """Who changed what. `before` and `after`: the parts that differ."""

    sequence: int
    at: datetime
    actor: str
    action: str = Field(description="submit, cancel; stop: the manager, at a limit.")
    project_id: str
    subject: str = Field(description="The job.")
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditList(View):
    """The audit log, oldest first. Ask again with `after` = the last sequence."""

    entries: list[AuditView]


class QueueView(View):
    """One pool of GPUs, and who waits for it."""

    pool: str
    capacity: int | None = Field(description="Cards, MIG instances or MiB in all; null: not known.")
    held: int
    running_count: int = Field(description="Jobs that run on it.")
    waiting_count: int
    longest_wait_seconds: float
    own_waiting_count: int = Field(description="Those of projects that the caller may list.")


class QueueList(View):
    """All pools in which somebody waits or holds, or that have a size."""

    engine: str
    policy: str
    looked_at: datetime
    queues: list[QueueView]


class UsageView(View):
    """What a project held of one pool."""

    pool: str
    capacity_type: str
    gpu_hours: float
    cost_usd: Usd | None = Field(description="null: a part of it has no price.")


class ProjectUsage(View):
    """A project's use between two instants."""

    project_id: str
    from_at: datetime
    to_at: datetime
    gpu_hours: float
    cost_usd: Usd = Field(description="Of what has a price: at least this.")
    cost_complete: bool
    jobs: dict[str, int] = Field(description="Jobs submitted in the span, by state.")
    usage: list[UsageView]


class QuotaView(View):
    """What a project may hold and spend."""

    project_id: str
    weight: float
    gpu_quota_count: int | None
    gpus_held: float
    waiting_count: int
    budget_usd_per_month: Usd | None
    spent_usd_this_month: Usd


class QuotaList(View):
    """The projects that the caller may list."""

    quotas: list[QuotaView]


class PriceView(View):
    """What one card costs an hour."""

    gpu: str
    gpu_type: str
    memory_gb: int
    on_demand_usd_per_hour: Usd
    spot_usd_per_hour: Usd
    source: str


class PriceList(View):
    """The estate's prices."""

    table: str
    prices: list[PriceView]


class CardPartView(View):
    """What a job holds of one card."""

    job_id: str | None = Field(description="null: a job of a project that the caller may not list.")
    project_id: str | None
    ratio: float = Field(description="0 to 1.")


class NodeView(View):
    """A node's cards, one way in which its jobs fit on them."""

    node: str
    gpu: str
    cards: list[list[CardPartView]]
    beyond: list[str] = Field(description="Jobs that found no card, because two looks did not agree.")


class CardList(View):
    """Every node that has cards."""

    looked_at: datetime
    nodes: list[NodeView]
    unplaced: list[str] = Field(description="Your jobs that hold cards, and of which no node is known yet.")


class ProjectSpending(View):
    """What one project spent in each step."""

    project_id: str
    cost_usd: list[Usd] = Field(description="Of what has a price: at least this.")
    cost_complete: bool


class Spending(View):
    """Money over time. The last step may be shorter."""

    from_at: datetime
    to_at: datetime
    step_seconds: int
    projects: list[ProjectSpending]
