"""dcgm-exporter as the source: believed only where its per-pod figures are real."""

from __future__ import annotations

from datetime import timedelta

import pytest

from helpers.domain.errors import DependencyError
from helpers.domain.telemetry.dcgm import DcgmDevices, read_dcgm
from helpers.domain.telemetry.exposition import parse_exposition
from helpers.domain.telemetry.reading import Failure
from helpers.services.dcgm import DcgmSampler
from tests.fakes.telemetry import NOW, FakeClock, FakeLog

MIB = 1024 * 1024


def row(name: str, value: float, *, gpu: int = 0, pod: str = "", more: str = "") -> str:
    labels = f'gpu="{gpu}",UUID="GPU-{gpu}",modelName="Tesla T4",Hostname="node"{more}'
    who = f',namespace="ns",pod="{pod}",container="main",pod_uid="u"' if pod else ""
    return f"{name}{{{labels}{who}}} {value}\n"


def device(gpu: int = 0, used: float = 4000) -> str:
    return (
        row("DCGM_FI_DEV_FB_USED", used, gpu=gpu)
        + row("DCGM_FI_DEV_FB_FREE", 10910, gpu=gpu)
        + row("DCGM_FI_DEV_FB_RESERVED", 450, gpu=gpu)
        + row("DCGM_FI_DEV_GPU_UTIL", 25, gpu=gpu)
        + row("DCGM_FI_DEV_GPU_TEMP", 55, gpu=gpu)
    )


def read(text: str) -> DcgmDevices:
    return read_dcgm(parse_exposition(text), NOW)


def failure(text: str) -> Failure | None:
    (sample,) = read(text).samples
    return sample.fault.failure if sample.fault is not None else None


REAL = device() + row("DCGM_FI_DEV_FB_USED", 3000, pod="a") + row("DCGM_FI_DEV_FB_USED", 0, pod="idle")


def test_real_per_pod_series_beside_the_devices_own_are_believed() -> None:
    (sample,) = read(REAL).samples
    assert sample.memory is not None
    assert (sample.memory.used_bytes, sample.memory.free_bytes) == (4000 * MIB, 10910 * MIB)
    assert sample.memory.total_bytes == 15360 * MIB
    assert sample.attribution is not None
    assert [(use.pod, use.used_bytes) for use in sample.attribution.uses] == [("a", 3000 * MIB)]
    assert sample.attribution.unattributed_bytes == 1000 * MIB


def test_ratios_are_ratios_and_temperatures_celsius() -> None:
    ((_, sensors),) = read(REAL).sensors
    assert (sensors.utilization_ratio, sensors.temperature_celsius, sensors.power_watts) == (0.25, 55.0, None)


def test_without_per_pod_series_attribution_is_unknown_and_the_settings_are_named() -> None:
    (sample,) = read(device()).samples
    assert sample.fault is not None
    assert sample.fault.failure is Failure.DCGM_NO_PER_POD_SERIES
    assert "KUBERNETES_VIRTUAL_GPUS=true and hostPID: true" in sample.fault.detail
    assert sample.memory is not None
    assert sample.attribution is None


def test_fault_13_the_devices_value_repeated_on_every_pod_is_refused() -> None:
    """dcgm-exporter repeats the device value on every time-sliced pod (#587, #725)."""
    free = row("DCGM_FI_DEV_FB_FREE", 10910, pod="a")
    repeated = row("DCGM_FI_DEV_FB_USED", 4000, pod="a") + row("DCGM_FI_DEV_FB_USED", 4000, pod="b") + free
    assert failure(repeated) is Failure.DCGM_VALUES_REPEATED
    assert failure(repeated + device()) is Failure.DCGM_VALUES_REPEATED


def test_a_card_without_pods_is_whole_where_another_card_shows_that_the_mode_is_on() -> None:
    first, second = read(REAL + device(gpu=1, used=500)).samples
    assert first.up
    assert second.attribution is not None
    assert second.attribution.unattributed_bytes == 500 * MIB


def test_names_behind_a_prometheus_without_honor_labels_are_found() -> None:
    text = device() + row("DCGM_FI_DEV_FB_USED", 3000, more=',exported_pod="a",exported_namespace="ns",pod="exporter"')
    (sample,) = read(text).samples
    assert sample.attribution is not None
    assert [(use.namespace, use.pod) for use in sample.attribution.uses] == [("ns", "a")]


def test_old_and_new_pod_of_one_name_add_up() -> None:
    text = REAL + row("DCGM_FI_DEV_FB_USED", 500, pod="a").replace('pod_uid="u"', 'pod_uid="v"')
    (sample,) = read(text).samples
    assert sample.attribution is not None
    assert sample.attribution.uses[0].used_bytes == 3500 * MIB


@pytest.mark.parametrize("gone", ["DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_FB_USED"])
def test_memory_that_is_not_there_is_unknown(gone: str) -> None:
    text = "".join(line for line in device().splitlines(keepends=True) if not line.startswith(gone))
    assert failure(text) is Failure.MEMORY_UNKNOWN


def test_mig_is_left_to_nvml() -> None:
    assert failure(REAL.replace('Hostname="node"', 'Hostname="node",GPU_I_ID="1"')) is Failure.NOT_SUPPORTED


class Source:
    """What dcgm-exporter answers; None: nothing."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def __call__(self) -> str:
        if self.text is None:
            raise DependencyError("GET http://127.0.0.1:9400/metrics: refused")
        return self.text


def sampler(source: Source, log: FakeLog | None = None) -> DcgmSampler:
    return DcgmSampler(source, None, collection_seconds=30.0, clock=FakeClock(), log=log or FakeLog())


def test_a_sample_is_dated_as_old_as_its_figures_may_be() -> None:
    (sample,) = sampler(Source(REAL)).sample().devices
    assert sample.sampled_at == NOW - timedelta(seconds=30)


def test_an_answer_that_fails_takes_the_known_cards_down_and_comes_back() -> None:
    source, log = Source(REAL), FakeLog()
    made = sampler(source, log)
    assert made.sample().whole
    for text in (None, "<html>", "up 1\n"):
        source.text = text
        snapshot = made.sample()
        assert [(one.gpu.uuid, one.up, one.memory) for one in snapshot.devices] == [("GPU-0", False, None)]
        assert not snapshot.source_up
    source.text = REAL
    assert made.sample().whole
    assert log.events() == ["sample_failed", "sample_whole_again"]
    assert made.sample().failure_counts == {("0", Failure.DCGM_UNREACHABLE): 3}
