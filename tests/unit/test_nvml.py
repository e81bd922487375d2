"""The real pynvml on the lab's libnvidia-ml.so.1."""

from __future__ import annotations

import ctypes
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest

from helpers.adapters.nvml.gpus import NvmlDevices
from helpers.adapters.nvml.workers import Hung, Worker
from helpers.domain.telemetry.reading import (
    CgroupReading,
    DeviceReading,
    Failure,
    Gpu,
    GpuReading,
    Refusal,
    RestartNeeded,
    TelemetryError,
)
from lab.errors import LabInputError
from lab.fake_nvml.build import LIBRARY, ensure_library
from lab.fake_nvml.state import FOR_EVER, STATE_VARIABLE, FakeDriver, FakeGpu, FakeMig, FakeProcess
from lab.waiting import wait_for

GIB = 1024**3
DEADLINE_SECONDS = 0.3
# Above any healthy answer on a loaded machine, for tests in which nothing hangs.
PATIENT_SECONDS = 20.0

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="the stand-in for NVML is compiled with gcc")

CARD = FakeGpu("GPU-0", 16 * GIB, 4 * GIB, GIB // 2, model="Tesla T4", processes=(FakeProcess(10, GIB),))
OTHER = FakeGpu("GPU-1", 24 * GIB)


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    """Loaded first, so that pynvml's own dlopen by soname finds it."""
    ctypes.CDLL(str(ensure_library() / LIBRARY))


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what the driver answers."""
    path = tmp_path / "state"
    monkeypatch.setenv(STATE_VARIABLE, str(path))

    def write(*gpus: FakeGpu, **more: object) -> None:
        FakeDriver(gpus, **more).write(path)  # type: ignore[arg-type]

    return write


@pytest.fixture
def devices(show: Callable[..., None]) -> Iterator[NvmlDevices]:
    made = NvmlDevices(deadline_seconds=PATIENT_SECONDS, reconnect_seconds=0.0)
    yield made
    made.close()


def only(readings: tuple[GpuReading, ...]) -> DeviceReading:
    (reading,) = readings
    (device,) = reading.devices
    return device


def test_a_card_tells_name_memory_and_sensors(show: Callable[..., None], devices: NvmlDevices) -> None:
    show(replace(CARD, utilization_percent=35, temperature_celsius=61, power_milliwatts=48_500, ecc=(3, 1)))
    (reading,) = devices.read()
    assert reading.gpu == Gpu(0, "GPU-0", "Tesla T4")
    assert (reading.sensors.utilization_ratio, reading.sensors.temperature_celsius) == (0.35, 61.0)
    assert reading.sensors.power_watts == 48.5
    assert (reading.sensors.ecc_corrected_count, reading.sensors.ecc_uncorrected_count) == (3, 1)
    assert devices.driver_version() == "595.91.07"


def test_used_is_without_the_drivers_reserve_and_free_is_the_drivers_own(
    show: Callable[..., None], devices: NvmlDevices
) -> None:
    """Fault 13: the driver's reserve (about 450 MiB on a T4) was not subtracted."""
    show(CARD)
    memory = only(devices.read()).memory
    assert memory is not None
    assert (memory.total_bytes, memory.used_bytes, memory.reserved_bytes) == (16 * GIB, 4 * GIB, GIB // 2)
    assert memory.free_bytes == 16 * GIB - 4 * GIB - GIB // 2


def test_a_driver_without_the_newer_memory_call_leaves_the_reserve_unknown(
    show: Callable[..., None], devices: NvmlDevices
) -> None:
    show(CARD, errors={("nvmlDeviceGetMemoryInfo_v2", "*"): pynvml.NVML_ERROR_FUNCTION_NOT_FOUND})
    memory = only(devices.read()).memory
    assert memory is not None
    assert (memory.reserved_bytes, memory.used_bytes) == (None, 4 * GIB + GIB // 2)


def test_sensors_that_a_card_lacks_are_absent_and_not_zero(show: Callable[..., None], devices: NvmlDevices) -> None:
    show(replace(CARD, utilization_percent=None, temperature_celsius=None, power_milliwatts=None))
    (reading,) = devices.read()
    sensors = reading.sensors
    assert (sensors.utilization_ratio, sensors.temperature_celsius, sensors.power_watts) == (None, None, None)
    assert sensors.ecc_corrected_count is None
    assert reading.devices[0].fault is None


def test_fault_8_graphics_encode_and_mps_processes_are_seen_and_none_counts_twice(
    show: Callable[..., None], devices: NvmlDevices
) -> None:
    """`nvidia-smi`'s compute list missed graphics and NVENC."""
    rows = (
        FakeProcess(10, GIB, "C"),
        FakeProcess(10, 2 * GIB, "G"),
        FakeProcess(11, 3 * GIB, "G"),
        FakeProcess(12, GIB, "M"),
        FakeProcess(12, GIB, "C"),
    )
    show(replace(CARD, processes=rows))
    assert only(devices.read()).processes == {10: 2 * GIB, 11: 3 * GIB, 12: GIB}


def test_fault_8_one_row_without_memory_fails_its_card_only_and_is_never_all_free(
    show: Callable[..., None], devices: NvmlDevices
) -> None:
    """One `[N/A]` row emptied the exporter's answer, which read as "all free"."""
    show(replace(CARD, processes=(FakeProcess(10, None), FakeProcess(11, GIB))), replace(OTHER, used_bytes=GIB))
    bad, good = (reading.devices[0] for reading in devices.read())
    assert bad.processes is None
    assert bad.fault is not None
    assert bad.fault.failure is Failure.PROCESS_MEMORY_UNKNOWN
    assert "pid 10" in bad.fault.detail
    assert bad.memory is not None, "the card's own figures could be read"
    assert (good.fault, good.processes) == (None, {})


def test_memory_that_is_not_available_fails_the_sample(show: Callable[..., None], devices: NvmlDevices) -> None:
    show(replace(CARD, used_bytes=None))
    device = only(devices.read())
    assert device.memory is None
    assert device.fault is not None
    assert device.fault.failure is Failure.MEMORY_UNKNOWN


@pytest.mark.parametrize(
    ("function", "code", "failure"),
    [
        ("nvmlDeviceGetMemoryInfo_v2", pynvml.NVML_ERROR_UNKNOWN, Failure.NVML_ERROR),
        ("nvmlDeviceGetMemoryInfo_v2", pynvml.NVML_ERROR_NOT_SUPPORTED, Failure.NOT_SUPPORTED),
        ("nvmlDeviceGetComputeRunningProcesses_v3", pynvml.NVML_ERROR_NO_PERMISSION, Failure.NO_PERMISSION),
        ("nvmlDeviceGetComputeRunningProcesses_v3", pynvml.NVML_ERROR_NOT_SUPPORTED, Failure.NOT_SUPPORTED),
        ("nvmlDeviceGetGraphicsRunningProcesses_v3", pynvml.NVML_ERROR_UNKNOWN, Failure.NVML_ERROR),
        ("nvmlDeviceGetMPSComputeRunningProcesses_v3", pynvml.NVML_ERROR_UNKNOWN, Failure.NVML_ERROR),
    ],
)
def test_an_error_fails_its_card_and_the_other_is_served(
    show: Callable[..., None], devices: NvmlDevices, function: str, code: int, failure: Failure
) -> None:
    show(CARD, OTHER, errors={(function, "0"): code})
    bad, good = (reading.devices[0] for reading in devices.read())
    assert bad.fault is not None
    assert bad.fault.failure is failure
    assert bad.processes is None
    assert good.fault is None


@pytest.mark.parametrize(
    "function", ["nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v3"]
)
@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND])
def test_a_card_without_graphics_or_mps_simply_has_no_such_processes(
    show: Callable[..., None], devices: NvmlDevices, function: str, code: int
) -> None:
    show(CARD, errors={(function, "0"): code})
    assert only(devices.read()).processes == {10: GIB}


def test_a_lost_card_keeps_its_name_and_comes_back(show: Callable[..., None], devices: NvmlDevices) -> None:
    show(CARD, OTHER)
    devices.read()
    show(CARD, OTHER, errors={("nvmlDeviceGetHandleByIndex_v2", "0"): pynvml.NVML_ERROR_GPU_IS_LOST})
    lost, good = devices.read()
    assert lost.gpu.uuid == "GPU-0"
    assert lost.fault is not None
    assert lost.fault.failure is Failure.GPU_LOST
    assert good.devices[0].fault is None
    show(CARD, OTHER)
    assert all(device.fault is None for reading in devices.read() for device in reading.devices)


def test_a_hung_call_fails_its_card_at_the_deadline_the_others_go_on_and_it_recovers(
    show: Callable[..., None],
) -> None:
    patient = NvmlDevices(deadline_seconds=PATIENT_SECONDS)
    show(CARD, OTHER)
    patient.read()
    devices = NvmlDevices(deadline_seconds=DEADLINE_SECONDS)
    wait_for(lambda: all(reading.fault is None for reading in devices.read()))
    show(CARD, OTHER, delays={("nvmlDeviceGetMemoryInfo_v2", "0"): FOR_EVER})
    hung, good = devices.read()
    assert hung.fault is not None
    assert hung.fault.failure is Failure.HUNG
    assert (hung.gpu.uuid, hung.devices) == ("GPU-0", ())
    assert good.devices[0].fault is None
    began = time.monotonic()
    again, _ = devices.read()
    assert again.fault is not None
    assert "earlier call" in again.fault.detail, "nothing more is asked of a card that does not answer"
    assert time.monotonic() - began < PATIENT_SECONDS
    show(replace(CARD, used_bytes=7 * GIB), OTHER)
    back = wait_for(lambda: next((one for one in devices.read()[:1] if one.fault is None), None))
    assert back is not None
    memory = back.devices[0].memory
    assert memory is not None
    assert memory.used_bytes == 7 * GIB, "the late answer is dropped, a new one is asked for"
    devices.close()
    patient.close()


def test_a_driver_that_hangs_at_its_start_is_a_fault_and_not_a_hang(show: Callable[..., None]) -> None:
    show(CARD, delays={("nvmlInitWithFlags", "*"): FOR_EVER})
    devices = NvmlDevices(deadline_seconds=DEADLINE_SECONDS)
    with pytest.raises(TelemetryError) as caught:
        devices.read()
    assert caught.value.fault.failure is Failure.HUNG
    show(CARD)

    def recovered() -> bool:
        try:
            return only(devices.read()).fault is None
        except TelemetryError:
            return False

    assert wait_for(recovered)
    devices.close()


def test_a_driver_that_is_not_loaded_is_a_fault_and_is_picked_up_later(
    show: Callable[..., None], devices: NvmlDevices
) -> None:
    show(CARD, errors={("nvmlInitWithFlags", "*"): pynvml.NVML_ERROR_DRIVER_NOT_LOADED})
    with pytest.raises(TelemetryError, match="Driver Not Loaded") as caught:
        devices.read()
    assert caught.value.fault.failure is Failure.DRIVER
    show(CARD)
    assert only(devices.read()).fault is None


def test_a_driver_replaced_under_the_process_asks_for_a_restart(
    show: Callable[..., None], devices: NvmlDevices
) -> None:
    show(CARD, errors={("nvmlDeviceGetCount_v2", "*"): pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH})
    with pytest.raises(RestartNeeded, match="start it again"):
        devices.read()


def test_a_card_in_mig_mode_is_its_instances_each_with_its_own_processes(
    show: Callable[..., None], devices: NvmlDevices
) -> None:
    first = FakeMig("MIG-a", 5 * GIB, 2 * GIB, processes=(FakeProcess(10, 2 * GIB),))
    second = FakeMig("MIG-b", 10 * GIB, GIB, processes=(FakeProcess(11, GIB),))
    show(FakeGpu("GPU-0", 40 * GIB, 3 * GIB, migs=(first, second)))
    (reading,) = devices.read()
    assert [(one.gpu.uuid, one.gpu.label, one.processes) for one in reading.devices] == [
        ("MIG-a", "0.0", {10: 2 * GIB}),
        ("MIG-b", "0.1", {11: GIB}),
    ]
    assert [one.memory.total_bytes for one in reading.devices if one.memory] == [5 * GIB, 10 * GIB]


def test_an_error_of_one_instance_leaves_the_other(show: Callable[..., None], devices: NvmlDevices) -> None:
    migs = (FakeMig("MIG-a", 5 * GIB), FakeMig("MIG-b", 5 * GIB))
    show(
        FakeGpu("GPU-0", 40 * GIB, migs=migs),
        errors={("nvmlDeviceGetMemoryInfo_v2", "0.0"): pynvml.NVML_ERROR_UNKNOWN},
    )
    (reading,) = devices.read()
    assert [one.fault is None for one in reading.devices] == [False, True]


def test_a_card_read_again_shows_what_changed(show: Callable[..., None], devices: NvmlDevices) -> None:
    show(CARD)
    devices.read()
    show(replace(CARD, processes=()))
    assert devices.read_again(0).devices[0].processes == {}


def test_xid_errors_are_counted_as_they_happen(show: Callable[..., None], devices: NvmlDevices) -> None:
    show(replace(CARD, xids=(79,)))
    devices.read()
    gpu = Gpu(0, "GPU-0", "Tesla T4")
    wait_for(lambda: devices.xid_counts() == {(gpu, 79): 1})
    show(replace(CARD, xids=(79, 79, 31)))
    wait_for(lambda: devices.xid_counts() == {(gpu, 79): 2, (gpu, 31): 1})


CGROUP = "/kubepods.slice/pod.slice/leaf.scope"


def test_a_driver_from_r615_gives_its_account_of_a_cgroup_by_its_full_path(
    show: Callable[..., None], devices: NvmlDevices
) -> None:
    limits = {f"/sys/fs/cgroup{CGROUP}": (GIB, 4 * GIB, 2 * GIB)}
    show(replace(CARD, limits=limits), has_memory_limits=True)
    devices.read()
    found = devices.cgroup_readings(Gpu(0, "GPU-0"), [CGROUP, "/other"])
    assert found.supported
    assert found.by_path == {CGROUP: CgroupReading(GIB, 4 * GIB, 2 * GIB), "/other": CgroupReading(0, None, 0)}


def test_a_driver_before_r615_says_so(show: Callable[..., None], devices: NvmlDevices) -> None:
    show(CARD)
    devices.read()
    assert not devices.cgroup_readings(Gpu(0, "GPU-0"), [CGROUP]).supported


def test_an_error_for_one_cgroup_refuses_that_one(show: Callable[..., None], devices: NvmlDevices) -> None:
    show(CARD, has_memory_limits=True, errors={("nvmlDeviceGetMemoryLimits_v1", "0"): pynvml.NVML_ERROR_UNKNOWN})
    devices.read()
    assert devices.cgroup_readings(Gpu(0, "GPU-0"), [CGROUP]).by_path == {CGROUP: Refusal.NVML_ERROR}


def test_the_stand_in_refuses_uuids_that_its_file_could_not_hold(tmp_path: Path) -> None:
    with pytest.raises(LabInputError, match="without blanks"):
        FakeDriver((replace(CARD, uuid="GPU 0"),)).write(tmp_path / "state")


def test_a_worker_with_a_call_under_way_takes_no_other() -> None:
    worker, release, made = Worker("test"), threading.Event(), []
    first = worker.submit(release.wait)
    second = worker.submit(lambda: made.append(1))
    with pytest.raises(Hung, match="earlier call"):
        second.result(time.monotonic())
    release.set()
    assert first.result(time.monotonic() + PATIENT_SECONDS)
    assert made == []


def test_a_workers_error_reaches_whoever_waits() -> None:
    def fails() -> None:
        raise ValueError("from the call")

    with pytest.raises(ValueError, match="from the call"):
        Worker("test").submit(fails).result(time.monotonic() + PATIENT_SECONDS)
