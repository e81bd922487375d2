"""The estate's `coordinator` block: job queues in front of shared cards, and when each may run."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from helpers.domain.estate.base import DnsLabel, DnsSubdomain, EstateModel, broken_rule
from helpers.domain.estate.demand_gates import DemandGate, Keda
from helpers.domain.estate.leases import Leases
from helpers.domain.estate.texts import HttpUrl
from helpers.domain.estate.watchdog import Seconds
from helpers.domain.estate.windows import LaneWindow
from helpers.domain.memory import PositiveMib


def _redis_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise broken_rule(
            "the address of a Redis: redis:// or rediss://, host, port, database",
            "write it like redis://redis.ai:6379/0",
        )
    if parts.password is not None:
        raise broken_rule("no password stands in the estate", "take it out, and name password_env or password_secret")
    return value


def _queue_name(value: str) -> str:
    # BullMQ refuses a colon itself: it separates the parts of its keys.
    if re.fullmatch(r"[^:\s]+", value) is None:
        raise broken_rule(
            "a queue's name, without colons and spaces", "use the name that the application gives to Queue"
        )
    return value


RedisUrl = Annotated[str, AfterValidator(_redis_url)]
QueueName = Annotated[str, AfterValidator(_queue_name)]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Lane(EstateModel):
    """One or several queues, or leases, that share a place in the order."""

    name: DnsLabel = Field(description="Unique; reports, metrics and the lane's Redis key use it.")
    queues: tuple[QueueName, ...] = Field(
        default=(),
        strict=False,
        description="BullMQ queues, as the application names them. Absent: the lane is for leases alone.",
    )
    workload_class: Literal["realtime", "batch"] = Field(
        alias="class", description="realtime: never paused, and batch yields to it. batch: it can wait."
    )
    priority: int = Field(default=0, ge=0, le=1_000_000, description="Among batch lanes the higher one goes first.")
    tenant: str = Field(description="The tenant whose memory the jobs use; its budget is the room of its lanes.")
    model: str | None = Field(
        default=None, description="The tenant's model that the jobs use; absent: none is managed."
    )
    vram_mib: PositiveMib | None = Field(
        default=None, description="MiB that the lane's jobs need while they run; absent: its model's vram_mib."
    )
    windows: tuple[LaneWindow, ...] = Field(
        default=(), strict=False, description="Batch only: when it may run. Absent: at any hour."
    )
    lead_seconds: Seconds = Field(
        default=0.0,
        description="Batch only: no job begins this long before a window closes; the length of a long job, "
        "so that none runs on after it.",
    )
    settle_seconds: Seconds = Field(
        default=5.0, description="Batch only: how long nobody before it may have been busy before it is resumed."
    )
    on_realtime: Literal["wait", "yield"] = Field(
        default="wait",
        description="Batch only, for jobs that still run when realtime comes. wait: they run to their end. yield: the "
        "tenant is asked by its watchdog.release_hook, once for each burst of realtime work.",
    )
    pause: Literal["bullmq", "immich"] = Field(
        default="bullmq", description="bullmq: by the application's own major version. immich: by Immich's API."
    )
    bullmq_major: Literal[4, 5, 6] | None = Field(
        default=None, description="The application's BullMQ where it leaves no version in Redis (Python clients)."
    )
    cleanup: Literal["keep", "unload"] = Field(
        default="keep", description="unload: the model leaves the memory whenever the lane has come to rest."
    )

    @model_validator(mode="after")
    def _windows_are_for_batch(self) -> Lane:
        if self.windows and self.workload_class == "realtime":
            raise broken_rule(
                "a realtime lane is never paused, so it has no windows",
                "remove windows, or use class: batch",
                at="windows",
            )
        if self.on_realtime == "yield" and self.workload_class == "realtime":
            raise broken_rule(
                "realtime is what others yield to, so it is never asked to yield",
                "remove on_realtime, or use class: batch",
                at="on_realtime",
            )
        if self.queues and self.vram_mib is None and self.model is None:
            raise broken_rule("a lane needs vram_mib, or a model that has one", "add vram_mib", at="vram_mib")
        if not self.queues and self.vram_mib is not None:
            raise broken_rule(
                "a lane without queues has no jobs, and each lease says itself what it needs",
                "remove vram_mib, or add queues",
                at="vram_mib",
            )
        if self.cleanup == "unload" and self.model is None:
            raise broken_rule("cleanup: unload needs the lane's model", "add model, or use cleanup: keep", at="cleanup")
        return self


class SecretKey(EstateModel):
    """One key of a Kubernetes Secret, in the coordinator's namespace."""

    name: DnsSubdomain = Field(description="The Secret's name.")
    key: str = Field(min_length=1, description="The key in it.")


class Redis(EstateModel):
    """The Redis that holds the queues. No password stands here."""

    url: RedisUrl = Field(description="redis:// or rediss:// with host, port and database, without a password.")
    password_env: VariableName = Field(
        default="GPUMEM_REDIS_PASSWORD", description="The variable that holds the password; not set: none is sent."
    )
    password_secret: SecretKey | None = Field(
        default=None, description="In a cluster: the Secret from which that variable is filled."
    )


class Immich(EstateModel):
    """Immich's own API, for lanes with `pause: immich`."""

    url: HttpUrl = Field(description="Immich's address, without /api.")
    api_key_env: VariableName = Field(
        default="GPUMEM_IMMICH_API_KEY", description="The variable that holds an API key with the right to jobs."
    )
    api_key_secret: SecretKey | None = Field(
        default=None, description="In a cluster: the Secret from which that variable is filled."
    )


class Engine(EstateModel):
    """How the coordinator sees whether a tenant's card and server are there."""

    tenant: str = Field(description="The tenant.")
    ollama_url: HttpUrl | None = Field(default=None, description="Its Ollama, asked for what is loaded.")
    exporter_url: HttpUrl | None = Field(
        default=None, description="The exporter's /metrics of its node, by address; free memory is measured there."
    )
    watch_node: bool = Field(
        default=True,
        description="In a cluster: the card is away, too, while no node of its entry is Ready. false: its machine is "
        "no node of that cluster.",
    )
    away_after_seconds: Seconds = Field(default=10.0, description="No answer for this long: the fallback begins.")
    unload_timeout_seconds: Seconds = Field(default=20.0, description="How long freed memory is looked for.")

    @model_validator(mode="after")
    def _sees_something(self) -> Engine:
        if self.ollama_url is None and self.exporter_url is None:
            raise broken_rule("an engine is seen by ollama_url, exporter_url or both", "give one, or remove the engine")
        return self


class Coordinator(EstateModel):
    """Which queue may run when. Absent: there is no coordinator."""

    redis: Redis = Field(description="The Redis that holds the queues.")
    dry_run: bool = Field(
        default=False,
        description="true: only say what would be done. Nothing is paused, unloaded, asked or written to Redis.",
    )
    prefix: str = Field(default="bull", min_length=1, description="BullMQ's key prefix; Immich's is immich_bull.")
    lanes: tuple[Lane, ...] = Field(default=(), strict=False, description="Queues in front of a card.")
    demand_gates: tuple[DemandGate, ...] = Field(
        default=(), strict=False, description="Batch tenants that run only while there is room and a use for them."
    )
    keda: Keda | None = Field(default=None, description="Needed by demand gates with engine: keda.")
    ignored: tuple[QueueName, ...] = Field(
        default=(), strict=False, description="Queues that use no card: never read, never paused."
    )
    engines: tuple[Engine, ...] = Field(default=(), strict=False, description="What says whether a card is there.")
    immich: Immich | None = Field(default=None, description="Needed by lanes with pause: immich.")
    leases: Leases | None = Field(
        default=None, description="Time-limited rights to MiB, for work that is in no queue. Absent: there are none."
    )
    ttl_seconds: float = Field(
        default=15.0, ge=1, le=600, description="A coordinator that died is followed after this; also the keys' life."
    )
    poll_seconds: float = Field(default=1.0, ge=0.1, le=60, description="The backstop behind the queues' own events.")
    retry_after_seconds: int = Field(
        default=30, ge=1, le=3600, description="What realtime callers are told while the card is away."
    )
    batch_retry_seconds: int = Field(
        default=300, ge=1, le=86_400, description="How long a batch job is delayed that finds its lane closed."
    )
    paused_for_seconds: int = Field(
        default=43_200,
        ge=60,
        le=604_800,
        description="A lane with waiting jobs paused longer than this raises an alert.",
    )

    @model_validator(mode="after")
    def _has_something_to_do(self) -> Coordinator:
        if not self.lanes and not self.demand_gates:
            raise broken_rule("a coordinator has lanes, demand_gates or both", "declare one, or remove the block")
        return self
