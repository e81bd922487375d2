"""What a user asks for: the body of `POST /api/v1/gpu/jobs`, checked before anything is kept."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from helpers.domain import names
from helpers.domain.errors import QuantityError
from helpers.domain.estate.base import DnsLabel, broken_rule
from helpers.domain.estate.suggestion import did_you_mean
from helpers.domain.jobs.gpus import GPU_TYPES, AskKind, Demand, Pool, mib_of_gb
from helpers.domain.jobs.problems import RequestInvalid, problems_of
from helpers.domain.memory import PositiveMib
from helpers.domain.quantity import Quantity

MOST_GPUS_COUNT = 64
MOST_WORKERS_COUNT = 256
SECONDS_PER_HOUR = 3600


class Priority(StrEnum):
    """How urgent a job is."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 goes first."""
        return list(Priority).index(self)


class JobModel(BaseModel):
    """A block of a request: exact types only, unknown fields are errors, never changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _quantity(value: str) -> str:
    try:
        amount = Quantity.parse(value)
    except QuantityError as error:
        raise broken_rule(f"a Kubernetes quantity: {error}", 'write it like "16" or "128Gi"') from error
    if amount.value <= 0:
        raise broken_rule("an amount above 0", "leave the field out to ask for nothing")
    return amount.canonical()


def _job_name(value: str) -> str:
    if not value or re.fullmatch(names.LABEL_VALUE, value) is None:
        raise broken_rule(
            "letters, digits, dashes, underscores and dots, 1 to 63, a letter or digit at both ends",
            "write it like finetune_llama_7b",
        )
    return value


def _image(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][^\s\x00-\x1f]{0,511}", value) is None:
        raise broken_rule("an image reference: registry, name, and a tag or digest", "write it like pytorch:24.01-py3")
    return value


def _variable(value: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", value) is None:
        raise broken_rule("a variable's name: letters, digits and underscores, no digit first", "rename the variable")
    return value


def _printable(value: str) -> str:
    if "\x00" in value:
        raise broken_rule("a text without NUL characters", "remove them")
    return value


QuantityText = Annotated[str, AfterValidator(_quantity)]
Text = Annotated[str, Field(max_length=32768), AfterValidator(_printable)]
VariableName = Annotated[str, AfterValidator(_variable)]
# The API's numbers are JSON numbers, as the field's reference shows them; in here they are exact.
Usd = Annotated[
    Decimal,
    Field(strict=False, allow_inf_nan=False),
    PlainSerializer(float, return_type=float, when_used="json-unless-none"),
]


class GpuRequirements(JobModel):
    """Which GPU, and how much of it. Whole cards, MIG instances (`mig_profile`) or MiB of a shared card."""

    gpu_type: str = Field(
        pattern=r"^[A-Za-z0-9]{1,32}$",
        description=f"{', '.join(sorted(GPU_TYPES))}, or another card with a price in the estate, such as RTX3090.",
    )
    gpu_count: int = Field(default=1, ge=1, le=MOST_GPUS_COUNT, description="Cards, or MIG instances, of each worker.")
    gpu_memory_gb: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="The card's memory as it is sold. Absent: the size that the estate has.",
    )
    mig_profile: str | None = Field(default=None, description="A part of a card, such as 1g.10gb.")
    gpu_memory_mib: PositiveMib | None = Field(
        default=None, description="MiB on a card that is shared with others: the job's budget. gpu_count is 1."
    )

    @model_validator(mode="after")
    def _can_be_had(self) -> GpuRequirements:
        sizes = GPU_TYPES.get(self.gpu_type)
        if sizes is not None and self.gpu_memory_gb is not None and self.gpu_memory_gb > max(sizes):
            rule = f"no {self.gpu_type} has more than {max(sizes)} GB"
            raise broken_rule(rule, f"ask for {max(sizes)} or less", at="gpu_memory_gb")
        if self.mig_profile is not None and self.gpu_memory_mib is not None:
            rule = "a job has MIG instances, or MiB on a shared card, not both"
            raise broken_rule(rule, "remove mig_profile or gpu_memory_mib", at="gpu_memory_mib")
        self._checked_parts()
        return self

    def _checked_parts(self) -> None:
        size_gb = self.size_gb
        profiles = GPU_TYPES.get(self.gpu_type, {}).get(size_gb, ())
        if self.mig_profile is not None and self.mig_profile not in profiles:
            rule = f"a MIG profile of {self.gpu_type}" + (f" with {size_gb} GB" if size_gb else "")
            raise broken_rule(rule, did_you_mean(self.mig_profile, profiles), at="mig_profile")
        if self.gpu_memory_mib is None:
            return
        if self.gpu_count != 1:
            rule = "MiB on a shared card are on one card"
            raise broken_rule(rule, "set gpu_count: 1, and workers for more pods", at="gpu_count")
        if size_gb and self.gpu_memory_mib >= mib_of_gb(size_gb):
            rule = f"less than the card's {mib_of_gb(size_gb)} MiB"
            raise broken_rule(rule, "remove gpu_memory_mib to ask for a whole card", at="gpu_memory_mib")

    @property
    def size_gb(self) -> int:
        """The smallest size of the type that has what is asked for; 0: which sizes there are, the estate says."""
        sizes = GPU_TYPES.get(self.gpu_type)
        if sizes is None:
            return self.gpu_memory_gb or 0
        fitting = [size for size in sorted(sizes) if size >= (self.gpu_memory_gb or 0)]
        if self.mig_profile is not None:
            fitting = [size for size in fitting if self.mig_profile in sizes[size]] or fitting
        if self.gpu_memory_mib is not None:
            fitting = [size for size in fitting if mib_of_gb(size) > self.gpu_memory_mib] or fitting[-1:]
        return fitting[0]

    @property
    def kind(self) -> AskKind:
        """Whole cards, MIG instances, or MiB of a shared card."""
        if self.mig_profile is not None:
            return "mig"
        return "whole" if self.gpu_memory_mib is None else "shared"

    def demand(self, workers: int) -> Demand:
        """What all `workers` take together."""
        pool = Pool(self.gpu_type, self.size_gb, self.kind, self.mig_profile or "")
        return Demand(pool, self.gpu_memory_mib or self.gpu_count, workers)


class Container(JobModel):
    """What runs."""

    image: Annotated[str, AfterValidator(_image)] = Field(description="The image; its registry must be reachable.")
    command: tuple[Text, ...] = Field(
        default=(), max_length=1000, strict=False, description="In place of the image's entry point. Absent: its own."
    )
    env: dict[VariableName, Text] = Field(default_factory=dict, max_length=200, description="Variables.")


class Resources(JobModel):
    """What each worker asks for besides GPUs, as Kubernetes quantities. Absent: nothing is asked for."""

    cpu: QuantityText | None = Field(default=None, description="Processor cores.")
    memory: QuantityText | None = Field(default=None, description="Main memory.")
    ephemeral_storage: QuantityText | None = Field(default=None, description="Room on the node's disk.")


class Checkpoint(JobModel):
    """How a job is told to write a checkpoint, so that a preemption costs it little."""

    signal: Literal["SIGUSR1", "SIGUSR2", "SIGTERM", "SIGHUP"] | None = Field(
        default=None, description="Sent to the container's first process."
    )
    http_path: str | None = Field(
        default=None, pattern=r"^/[!-~]{0,255}$", description="Asked by POST on the pod's address."
    )
    http_port: int = Field(default=8080, ge=1, le=65535, description="Where http_path is asked.")
    interval_seconds: int = Field(default=900, ge=60, le=86400, description="How often.")

    @model_validator(mode="after")
    def _one_way(self) -> Checkpoint:
        if (self.signal is None) == (self.http_path is None):
            raise broken_rule(
                "a checkpoint is asked for by a signal or by HTTP", "give signal or http_path, one of them"
            )
        return self


class JobSpec(JobModel):
    """A job, as it is asked for."""

    job_name: Annotated[str, AfterValidator(_job_name)] = Field(
        description="The user's own name of it; need not be unique."
    )
    project_id: DnsLabel = Field(description="The project, which is a namespace of the cluster.")
    priority: Annotated[Priority, Field(strict=False)] = Field(default=Priority.MEDIUM, description="How urgent it is.")
    gpu_requirements: GpuRequirements = Field(description="Which GPUs.")
    container: Container = Field(description="What runs.")
    resources: Resources = Field(default_factory=Resources, description="What else each worker asks for.")
    budget_limit_usd: Annotated[Usd, Field(gt=0, le=1_000_000, decimal_places=4)] | None = Field(
        default=None, description="The job is stopped when it has cost so much. Absent: no limit."
    )
    max_duration_hours: Annotated[float, Field(gt=0, le=720, allow_inf_nan=False)] | None = Field(
        default=None, description="The job is stopped when it ran so long. Absent: the estate's limit."
    )
    preemptible: bool = Field(default=False, description="true: it may run on spot capacity, and be interrupted.")
    workers: int = Field(
        default=1, ge=1, le=MOST_WORKERS_COUNT, description="Pods that start together or not at all; each has the GPUs."
    )
    checkpoint: Checkpoint | None = Field(
        default=None, description="How it saves its state. Absent: it is not asked to."
    )

    @cached_property
    def demand(self) -> Demand:
        """What it takes of which pool."""
        return self.gpu_requirements.demand(self.workers)

    def most_seconds(self, default_hours: float) -> float:
        """How long it may run; `default_hours` where it does not say."""
        return (self.max_duration_hours or default_hours) * SECONDS_PER_HOUR


def known_fields() -> dict[str, tuple[str, ...]]:
    """`{place of a block: its fields}`."""
    blocks: dict[str, type[BaseModel]] = {
        "": JobSpec,
        "gpu_requirements": GpuRequirements,
        "container": Container,
        "resources": Resources,
        "checkpoint": Checkpoint,
    }
    return {place: tuple(model.model_fields) for place, model in blocks.items()}


def read_spec(document: Any) -> JobSpec:
    """The job that a JSON document asks for.

    Raises:
        RequestInvalid: it holds something else; carries every problem.
    """
    try:
        return JobSpec.model_validate(document)
    except ValidationError as error:
        raise RequestInvalid(problems_of(error.errors(include_url=False), known=known_fields())) from error
