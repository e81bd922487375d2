"""The estate's `monitoring` block: who scrapes, where alerts point to, and how long they wait.

The amounts that alerts compare against are the watchdog's and the cards' own (`watchdog.floor_mib`,
`reserve_mib`); here stands only what nobody else needs.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from helpers.domain.estate.base import DnsSubdomain, EstateModel, LabelKey, broken_rule
from helpers.domain.memory import PositiveMib
from helpers.domain.names import LABEL_VALUE

# The scrape jobs' names. PodMonitors, the plain scrape configuration and the lab set them, alerts read them.
JOB_EXPORTER = "gpumem-exporter"
JOB_WATCHDOG = "gpumem-watchdog"
JOB_CAPACITY = "gpumem-capacity"
JOB_DRA_AGENT = "gpumem-dra-agent"
JOB_INJECTOR = "gpumem-injector"
JOB_COORDINATOR = "gpumem-coordinator"
JOB_MANAGER = "gpumem-manager"
# The GPU Operator's dcgm-exporter; its pods carry this under `app`.
JOB_DCGM = "nvidia-dcgm-exporter"

DASHBOARD_UID = "gpumem"
DASHBOARD_FILE = "gpumem.json"
RULES_FILE = "gpumem.rules.yaml"
SCRAPE_FILE = "gpumem.scrape.yaml"


def _label_value(value: str) -> str:
    if re.fullmatch(LABEL_VALUE, value) is None:
        raise broken_rule("a label's value: letters, digits, dashes, dots, underscores, at most 63", "shorten it")
    return value


def _base_url(value: str) -> str:
    if re.fullmatch(r"[^\s{}]*[^\s{}/]", value) is None:
        raise broken_rule(
            "the address under which the runbook pages lie, without a slash at its end",
            "write it like https://wiki.example.com/gpumem/runbooks",
        )
    return value


LabelValue = Annotated[str, AfterValidator(_label_value)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
WaitSeconds = Annotated[int, Field(ge=0, le=86400)]


class Monitoring(EstateModel):
    """Rules, scraping and dashboards."""

    prometheus_operator: bool = Field(
        default=False,
        description="true: the cluster has the Prometheus operator's CRDs, so PrometheusRule and PodMonitors are "
        "rendered. false: a ConfigMap with a plain rules file and scrape configuration.",
    )
    object_labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="Labels of those objects, where a Prometheus picks its own by label."
    )
    config_map: DnsSubdomain = Field(
        default="gpumem-prometheus", description="The ConfigMap with the plain rules file and scrape configuration."
    )
    scrape_interval_seconds: int = Field(
        default=15, ge=1, le=300, description="Seconds between two scrapes, and between two looks at the rules."
    )
    dashboard: bool = Field(default=True, description="Render the Grafana dashboard as a ConfigMap.")
    grafana_sidecar_label: LabelKey = Field(
        default="grafana_dashboard", description="The label by which Grafana's sidecar finds dashboards."
    )
    grafana_sidecar_value: LabelValue = Field(default="1", description="That label's value.")
    runbook_base_url: BaseUrl = Field(
        default="docs/runbooks", description="Where the runbook pages are served; alerts link to <base>/<alert>.md."
    )
    # Without it the alert flapped: four pairs of firing and resolved in seven days.
    keep_firing_for_seconds: WaitSeconds = Field(
        default=3600, description="How long GPUVRAMLow goes on firing after the pressure ended."
    )
    low_for_seconds: WaitSeconds = Field(default=30, description="How long free memory must be under the floor.")
    telemetry_for_seconds: WaitSeconds = Field(default=60, description="How long a card's figures must be unknown.")
    watchdog_for_seconds: WaitSeconds = Field(default=60, description="How long no watchdog must have looked.")
    pending_for_seconds: WaitSeconds = Field(default=300, description="How long an always-on pod may find no place.")
    over_budget_for_seconds: WaitSeconds = Field(default=300, description="How long a pod may be over its budget.")
    capacity_for_seconds: WaitSeconds = Field(default=120, description="How long a node may show no number.")
    unattributed_mib: PositiveMib | None = Field(
        default=None, description="Unattributed MiB on a card that are too many; absent: the smallest reserve_mib."
    )
    unattributed_for_seconds: WaitSeconds = Field(default=600, description="How long they may be too many.")
    # The T4's own limit for sustained use; most data-centre cards slow down a few degrees above.
    temperature_celsius: int = Field(default=85, ge=40, le=120, description="Degrees above which a card is too hot.")
    temperature_for_seconds: WaitSeconds = Field(default=300, description="How long it may be that hot.")
