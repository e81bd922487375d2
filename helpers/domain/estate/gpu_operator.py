"""The estate's `gpu_operator` block: the values of NVIDIA's GPU Operator's chart that follow from the estate."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from helpers.domain.estate.base import DnsLabel, EstateModel, UpstreamBlock, broken_rule
from helpers.domain.estate.texts import HttpUrl


def _chart_version(value: str) -> str:
    if re.fullmatch(r"v[0-9]+\.[0-9]+\.[0-9]+", value) is None:
        raise broken_rule("one released version of the chart, with its v", "write it like v26.7.0")
    return value


ChartVersion = Annotated[str, AfterValidator(_chart_version)]


class GpuOperator(EstateModel):
    """What the operator is told. It is installed by Helm or Argo CD, not by this project."""

    chart_version: ChartVersion = Field(description="The chart's version, which is the operator's.")
    chart_repository: HttpUrl | None = Field(
        default=None,
        description="The Helm repository that has the chart. Absent, or where Flux delivers: no Application of the "
        "operator is rendered.",
    )
    driver: bool | None = Field(
        default=None,
        description="Whether the operator installs the driver. Absent: it does, but for Talos, whose image has it.",
    )
    toolkit: bool | None = Field(
        default=None,
        description="Whether it installs the container toolkit. Absent: it does, but for Talos, whose image has it.",
    )
    default_node: DnsLabel | None = Field(
        default=None,
        description="The entry under nodes whose sharing holds where a node has no label "
        "nvidia.com/device-plugin.config. Absent: the only entry, or none where there are several.",
    )
    dcgm_exporter: bool = Field(default=True, description="Whether it runs dcgm-exporter; it is scraped, then.")
    values: UpstreamBlock = Field(
        default_factory=dict,
        description="More values of the chart, in its spelling; none that the estate decides.",
    )
