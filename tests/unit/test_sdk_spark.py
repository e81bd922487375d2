"""Spark RAPIDS: the settings, their arithmetic, and what is refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from helpers.sdk.gpu import JobRefused
from helpers.sdk.spark import RESERVE_MIB, SparkRapids

BASE: dict[str, Any] = {"image": "registry.example.com/spark:1", "project_id": "analytics"}


def test_the_references_settings_come_out() -> None:
    found = SparkRapids(**BASE, executors=4, cores=4).settings()
    assert found["spark.rapids.sql.enabled"] == "true"
    assert found["spark.executor.resource.gpu.amount"] == "1"
    assert Decimal(found["spark.task.resource.gpu.amount"]) == Decimal("0.25")
    assert not [key for key in found if "Fraction" in key]


@pytest.mark.parametrize("cores", range(1, 65))
def test_as_many_tasks_fit_on_a_gpu_as_the_executor_has_cores(cores: int) -> None:
    ratio = Decimal(SparkRapids(**BASE, cores=cores).settings()["spark.task.resource.gpu.amount"])
    assert 0 < ratio * cores <= 1
    assert 1 // ratio == cores  # Spark counts tasks a GPU so; a core more would stand idle


@pytest.mark.parametrize("budget_mib", [RESERVE_MIB + 1, 3000, 6000, 16383])
def test_pool_and_reserve_stay_within_the_budget(budget_mib: int) -> None:
    found = SparkRapids(**BASE, gpu_memory_mib=budget_mib, mib_resource="example.com/gpumem")
    settings = found.settings()
    largest = Decimal(settings["spark.rapids.memory.gpu.maxAllocFraction"])
    assert largest * 16384 + RESERVE_MIB <= budget_mib
    assert Decimal(settings["spark.rapids.memory.gpu.minAllocFraction"]) <= largest
    container = found.executor_pod_template()["spec"]["containers"][0]
    assert set(container["resources"]["limits"]) == {"example.com/gpumem"}


def test_spark_scales_by_itself_where_it_may() -> None:
    found = SparkRapids(**BASE, executors=1, most_executors=8).settings()
    assert found["spark.dynamicAllocation.enabled"] == "true"
    assert (found["spark.dynamicAllocation.minExecutors"], found["spark.dynamicAllocation.maxExecutors"]) == ("1", "8")


def test_all_that_cannot_be_is_said_at_once() -> None:
    with pytest.raises(JobRefused) as refused:
        SparkRapids(**BASE, cores=0, executors=2, most_executors=1, gpu_memory_mib=100)
    assert [problem.path for problem in refused.value.problems] == [
        "cores", "most_executors", "mib_resource", "gpu_memory_mib",
    ]  # fmt: skip


def test_a_card_that_only_the_estate_knows_needs_its_size_where_a_part_of_it_is_asked_for() -> None:
    part: dict[str, Any] = {"gpu_memory_mib": 12288, "mib_resource": "example.com/gpumem"}
    assert SparkRapids(**BASE, gpu_type="RTX3090").settings()["spark.executor.resource.gpu.amount"] == "1"
    with pytest.raises(
        JobRefused, match=r"gpu_type = RTX3090: a card whose size is known: A100, .*; set gpu_memory_gb"
    ):
        SparkRapids(**BASE, gpu_type="RTX3090", **part)
    told = SparkRapids(**BASE, gpu_type="RTX3090", gpu_memory_gb=24, **part)
    assert Decimal(told.settings()["spark.rapids.memory.gpu.maxAllocFraction"]) < Decimal("0.5")
    assert SparkRapids(**BASE, gpu_type="L4", **part).settings() == told.settings()  # sold with 24 GB as well
