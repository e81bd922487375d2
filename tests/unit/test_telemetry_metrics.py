"""The text of a scrape."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from helpers.adapters.exporter_samples import SampleReader
from helpers.apps.exporter.board import Board
from helpers.domain.telemetry.exposition import ExpositionError, Family, exposition, parse_exposition
from helpers.domain.telemetry.metrics import families
from helpers.domain.telemetry.reading import (
    Attribution,
    Budget,
    CgroupReading,
    DeviceSample,
    Failure,
    Fault,
    Gpu,
    MemoryReading,
    Refusal,
    Sensors,
    Snapshot,
    TenantUse,
)
from tests.fakes.telemetry import GIB, NOW, FakeClock

CARD = Gpu(0, "GPU-0", "Tesla T4")
MEMORY = MemoryReading(16 * GIB, 4 * GIB, 11 * GIB, GIB)
USE = TenantUse("immich", "ml-1", "main", 3 * GIB, CgroupReading(GIB, None, 3 * GIB))
WHOLE = DeviceSample(CARD, NOW, MEMORY, Attribution((USE,), GIB, {"no_pod": 2}, {Refusal.HALF_SET: 1}))
SNAPSHOT = Snapshot(
    at=NOW,
    devices=(WHOLE,),
    sensors=((CARD, Sensors(0.5, 60.0, 70.5, 3, 1)),),
    xid_counts={(CARD, 79): 2},
    budgets=(Budget("immich", "ml-1", "main", 3000),),
    source_up=True,
    driver_version="595.91.07",
    pods_up=True,
    pods_at=NOW,
    failure_counts={("0", Failure.HUNG): 4},
)
FAILED = DeviceSample(CARD, NOW, MEMORY, fault=Fault(Failure.PROCESS_MEMORY_UNKNOWN, "pid 10"))


def scraped(snapshot: Snapshot) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Parsed by Prometheus' own client, so that a wrong text fails here."""
    text = exposition(families(snapshot, version="1.2.3"))
    return {
        sample.name: [(one.labels, one.value) for one in family.samples if one.name == sample.name]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_whole_sample_has_every_figure_in_base_units() -> None:
    found = scraped(SNAPSHOT)
    device = {"gpu": "0", "uuid": "GPU-0"}
    who = {"namespace": "immich", "pod": "ml-1", "container": "main"}
    assert found["gpu_pod_memory_used_bytes"] == [(who | device, 3 * GIB)]
    assert found["gpu_memory_total_bytes"] == [(device, 16 * GIB)]
    assert found["gpu_memory_used_bytes"] == [(device, 4 * GIB)]
    assert found["gpu_memory_free_bytes"] == [(device, 11 * GIB)]
    assert found["gpu_memory_reserved_bytes"] == [(device, GIB)]
    assert found["gpu_memory_unattributed_bytes"] == [(device, GIB)]
    assert found["gpu_sample_up"] == [(device, 1.0)]
    assert found["gpu_sample_timestamp_seconds"] == [(device, NOW.timestamp())]
    assert found["gpumem_tenant_budget_bytes"] == [(who, 3000 * 1024 * 1024)]
    assert found["gpumem_build_info"] == [({"component": "exporter", "version": "1.2.3"}, 1.0)]
    assert found["gpu_utilization_ratio"] == [(device, 0.5)]
    assert found["gpu_ecc_errors_total"] == [(device | {"type": "corrected"}, 3), (device | {"type": "uncorrected"}, 1)]
    assert found["gpu_sample_failures_total"] == [({"gpu": "0", "reason": "hung"}, 4)]
    assert found["gpu_cgroup_limit_bytes"] == [(who | device | {"limit": "soft"}, GIB)], "no hard limit: no row"
    assert found["gpu_cgroup_readings_refused"] == [(device | {"reason": "half_set"}, 1)]


def test_fault_8_a_failed_sample_has_no_tenant_and_no_zero_in_their_place() -> None:
    """One `[N/A]` row emptied the answer, which read as "all free"."""
    found = scraped(replace(SNAPSHOT, devices=(FAILED,)))
    for absent in (
        "gpu_pod_memory_used_bytes",
        "gpu_memory_unattributed_bytes",
        "gpu_sample_timestamp_seconds",
        "gpu_unattributed_processes",
    ):
        assert absent not in found
    assert found["gpu_sample_up"][0][1] == 0.0
    assert found["gpu_attribution_up"][0][1] == 0.0
    assert found["gpu_memory_free_bytes"][0][1] == 11 * GIB, "what could be read is still there for alerts"


def test_memory_that_is_unknown_is_absent() -> None:
    hung = DeviceSample(CARD, NOW, fault=Fault(Failure.HUNG, "no answer"))
    found = scraped(replace(SNAPSHOT, devices=(hung,)))
    assert not [name for name in found if name.startswith("gpu_memory_")]
    assert found["gpu_sample_up"][0][1] == 0.0


def test_cards_that_never_told_their_uuid_are_down_each_in_a_row_of_its_own() -> None:
    lost = [DeviceSample(Gpu(index, ""), NOW, fault=Fault(Failure.GPU_LOST, "x")) for index in (1, 2)]
    found = scraped(replace(SNAPSHOT, devices=(WHOLE, *lost)))
    assert [(labels["uuid"], value) for labels, value in found["gpu_sample_up"]] == [
        ("GPU-0", 1.0),
        ("unknown-1", 0.0),
        ("unknown-2", 0.0),
    ]


def test_the_watchdogs_reader_takes_every_text_and_no_failed_card_for_a_whole_one() -> None:
    lost = DeviceSample(Gpu(1, ""), NOW, fault=Fault(Failure.GPU_LOST, "x"))
    unsure = replace(FAILED, gpu=Gpu(2, "GPU-2"))
    text = exposition(families(replace(SNAPSHOT, devices=(WHOLE, lost, unsure)), version="1"))
    read = {sample.uuid: sample for sample in SampleReader("t4-node").read(text, NOW)}
    whole, down, partial = read["GPU-0"], read["unknown-1"], read["GPU-2"]
    assert (whole.ok, whole.sampled_at, whole.used_mib, whole.unattributed_mib) == (True, NOW, 4096, 1024)
    assert [(use.namespace, use.pod, use.container, use.used_mib) for use in whole.pods] == [
        ("immich", "ml-1", "main", 3072)
    ]
    assert (down.ok, down.free_mib, down.pods) == (False, None, ())
    assert (partial.ok, partial.free_mib, partial.pods) == (False, 11 * 1024, ())


def test_an_unknown_reserve_and_missing_sensors_leave_no_row() -> None:
    memory = replace(MEMORY, reserved_bytes=None)
    found = scraped(replace(SNAPSHOT, devices=(replace(WHOLE, memory=memory),), sensors=((CARD, Sensors()),)))
    assert "gpu_memory_reserved_bytes" not in found
    assert "gpu_temperature_celsius" not in found


def test_labels_are_a_closed_set() -> None:
    allowed = {
        "gpu", "uuid", "namespace", "pod", "container", "reason", "limit", "type", "xid",
        "component", "version", "driver_version", "model",
    }  # fmt: skip
    assert {
        label for family in families(SNAPSHOT, version="1") for labels, _ in family.rows for label in labels
    } <= allowed


def test_counters_end_in_total_and_amounts_name_their_unit() -> None:
    for family in families(SNAPSHOT, version="1"):
        assert (family.type == "counter") == family.name.endswith("_total"), family.name
        assert not family.name.endswith(("_mib", "_mb", "_percent")), family.name


def test_text_in_labels_cannot_break_a_line() -> None:
    family = Family("x", "a\nb")
    family.add(1, model='A "quoted" \\ name\nand more')
    assert parse_exposition(exposition([family]))[0].labels == {"model": 'A "quoted" \\ name\nand more'}
    assert len(exposition([family]).splitlines()) == 3


def test_whole_bytes_keep_every_digit() -> None:
    family = Family("x", "x")
    family.add(2**53 - 1)
    assert exposition([family]).endswith(f"x {2**53 - 1}\n")


@pytest.mark.parametrize("text", ["{}", "name{a=b} 1", "name 1 2 3", 'name{a="b"', "name abc", "<html>"])
def test_a_text_that_is_no_metrics_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ExpositionError, match="line 2"):
        parse_exposition(f"# HELP x\n{text}\n")


def test_not_a_number_is_no_figure() -> None:
    assert parse_exposition("a NaN\nb 1e3 1700000000000\n")[0].value == 1000.0


def board(clock: FakeClock) -> Board:
    return Board(longest_age_seconds=7.0, version="1", clock=clock)


def test_before_the_first_round_a_scrape_is_empty() -> None:
    assert board(FakeClock()).metrics() == b""


def test_a_snapshot_that_grew_old_is_served_as_down_without_figures() -> None:
    """The sampling thread may stall; its last figures must not live on."""
    clock = FakeClock()
    served = board(clock)
    served.publish(SNAPSHOT)
    clock.seconds = 7.0
    assert b"gpu_pod_memory_used_bytes{" in served.metrics()
    clock.seconds = 7.5
    stale = served.metrics()
    assert b"gpu_pod_memory_used_bytes" not in stale
    assert b"gpu_memory_free_bytes" not in stale
    assert b'gpu_sample_up{gpu="0",uuid="GPU-0"} 0' in stale


def test_a_clock_that_is_set_changes_no_age() -> None:
    clock = FakeClock()
    served = board(clock)
    served.publish(replace(SNAPSHOT, at=NOW - timedelta(days=300)))
    assert b"gpu_pod_memory_used_bytes{" in served.metrics()


def test_health_is_about_rounds_and_not_about_what_they_find() -> None:
    clock = FakeClock()
    served = board(clock)
    served.publish(replace(SNAPSHOT, devices=(FAILED,), source_up=False))
    assert served.healthy()
    clock.seconds = 61.0
    assert not served.healthy()
