"""How a tenant shows that it works: probes, headroom, and the share of answers that may fail."""

from __future__ import annotations

from pydantic import Field, model_validator

from helpers.domain.estate.base import DnsLabel, EstateModel, broken_rule
from helpers.domain.memory import Mib


class HttpProbe(EstateModel):
    """A GET to the pod."""

    port: int = Field(ge=1, le=65535, description="Port of the pod.")
    path: str = Field(default="/", pattern=r"^/", description="The request's path.")
    status: int | None = Field(
        default=None, ge=100, le=599, description="The one status that is well. Absent: any below 400."
    )


class TcpProbe(EstateModel):
    """A connection to the pod."""

    port: int = Field(ge=1, le=65535, description="Port of the pod.")


class ExecProbe(EstateModel):
    """A command in the workload's container; exit status 0 is well."""

    command: tuple[str, ...] = Field(min_length=1, strict=False, description="The command and its arguments, no shell.")


class Probe(EstateModel):
    """One question to each pod of the tenant."""

    name: DnsLabel = Field(description="Unique within the tenant; before and after are compared by it.")
    http: HttpProbe | None = Field(default=None, description="A GET to the pod.")
    tcp: TcpProbe | None = Field(default=None, description="A connection to the pod.")
    exec: ExecProbe | None = Field(default=None, description="A command in the workload's container, run once.")
    timeout_seconds: float = Field(default=5.0, ge=0.1, le=60, description="How long one answer may take.")

    @model_validator(mode="after")
    def _one_way(self) -> Probe:
        if sum(way is not None for way in (self.http, self.tcp, self.exec)) != 1:
            raise broken_rule("a probe is exactly one of http, tcp and exec", "write one probe for each question")
        return self


class Health(EstateModel):
    """What `gpumem health` asks of a tenant."""

    probes: tuple[Probe, ...] = Field(default=(), strict=False, description="Questions to each of its pods.")
    tries_count: int = Field(default=5, ge=1, le=100, description="How often each http and tcp probe is made.")
    max_error_ratio: float = Field(default=0.0, ge=0, lt=1, description="Share of answers that may fail, 0 to 1.")
    min_headroom_mib: Mib | None = Field(
        default=None, description="MiB that must be left of each pod's budget, by the exporter. Absent: not asked."
    )

    @model_validator(mode="after")
    def _asks_something(self) -> Health:
        names = [probe.name for probe in self.probes]
        if not names and self.min_headroom_mib is None:
            raise broken_rule("health asks at least one thing", "give probes or min_headroom_mib, or remove health")
        for index, name in enumerate(names):
            if name in names[:index]:
                raise broken_rule(
                    f'probe names are unique, and "{name}" stands there twice',
                    "give it another name",
                    at="probes",
                )
        return self
