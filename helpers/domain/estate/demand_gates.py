"""The estate's words for demand gates: batch tenants that are scaled between 0 and 1."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from helpers.domain.estate.base import DnsLabel, EstateModel
from helpers.domain.estate.texts import HttpUrl
from helpers.domain.estate.watchdog import Seconds
from helpers.domain.estate.windows import LaneWindow
from helpers.domain.memory import Mib, PositiveMib


class DemandGate(EstateModel):
    """A batch tenant that runs, with one replica, only while there is room for it and a use."""

    name: DnsLabel = Field(description="Unique; metrics, Events and the lease's holder use it.")
    tenant: str = Field(description="The tenant that is scaled: elastic, with one replica.")
    engine: Literal["coordinator", "keda"] = Field(
        default="coordinator",
        description="Who scales it. keda: KEDA, by a ScaledObject that is rendered.",
    )
    lane: str | None = Field(
        default=None, description="The lane whose jobs are the use; absent: it is of use whenever a window is open."
    )
    windows: tuple[LaneWindow, ...] = Field(
        default=(), strict=False, description="When it may run; absent: at any hour. It closes with the window."
    )
    need_mib: PositiveMib | None = Field(
        default=None, description="MiB that it is granted before it opens; absent: the tenant's budget."
    )
    close_free_mib: Mib | None = Field(
        default=None, description="Under so much free memory it closes again; absent: watchdog.floor_mib."
    )
    margin_mib: Mib | None = Field(
        default=None,
        description="MiB that must be free above its need before it opens; absent: close_free_mib and 256 more.",
    )
    open_after_seconds: Seconds = Field(default=30.0, description="How long there must have been room before it opens.")
    close_after_seconds: Seconds = Field(
        default=60.0, description="How long memory must have been short, or no job there, before it closes."
    )
    dry_run: bool = Field(
        default=True, description="true: it is only said what would be done (keda: the ScaledObject is paused)."
    )


class Keda(EstateModel):
    """What ScaledObjects are told."""

    prometheus_url: HttpUrl = Field(description="The Prometheus that scrapes exporter and coordinator.")
    polling_seconds: int = Field(default=10, ge=1, le=3600, description="How often KEDA asks it.")
