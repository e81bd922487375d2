"""Cards become devices: names that stay, taints, and what a failed look does not do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.domain.dra.devices import (
    FORGOTTEN_AFTER_LOOKS,
    UNKNOWN_AFTER_LOOKS,
    Device,
    KnownDevice,
    Look,
    Outcome,
    ReserveRule,
    Taint,
    looked,
)
from helpers.domain.telemetry.reading import DeviceReading, Failure, Fault, Gpu, GpuReading, MemoryReading
from tests.fakes.telemetry import GIB, NOW

MIB = 1024**2
NONE_DECLARED = ReserveRule()
LOST = Fault(Failure.GPU_LOST, "GPU is lost (NVML 15)")
HUNG = Fault(Failure.HUNG, "no answer after 2.0 s")


def card(index: int, uuid: str, *, reserved: int | None = 500 * MIB, model: str = "Tesla T4") -> GpuReading:
    gpu = Gpu(index, uuid, model)
    memory = MemoryReading(15 * GIB, 0, 15 * GIB, reserved)
    return GpuReading(gpu, (DeviceReading(gpu, NOW, 1.0, memory, {}),))


def mig_card(index: int, uuid: str, *profiles: str) -> GpuReading:
    migs = [Gpu(index, f"MIG-{n}", "A100", n, f"NVIDIA A100 MIG {profile}") for n, profile in enumerate(profiles)]
    memory = MemoryReading(10 * GIB, 0, 10 * GIB, 12 * MIB)
    return GpuReading(Gpu(index, uuid, "A100"), tuple(DeviceReading(one, NOW, 1.0, memory, {}) for one in migs))


def failed(index: int, uuid: str, fault: Fault) -> GpuReading:
    return GpuReading(Gpu(index, uuid, "Tesla T4"), fault=fault)


def after(*looks: Look, known: tuple[KnownDevice, ...] = (), in_use: frozenset[str] = frozenset()) -> Outcome:
    outcome = Outcome(known, {})
    for look in looks:
        outcome = looked(outcome.known, look, NONE_DECLARED, in_use=in_use)
    return outcome


def shown(outcome: Outcome) -> dict[str, Device]:
    return {one.device.name: one.published() for one in outcome.known}


TWO = Look((card(0, "GPU-a"), card(1, "GPU-b")))


def test_each_card_is_a_device_with_what_the_reserve_leaves() -> None:
    devices = shown(after(TWO))
    assert list(devices) == ["gpu-0", "gpu-1"]
    assert devices["gpu-1"] == Device("gpu-1", "GPU-b", "Tesla T4", 1, 15360 - 500, card_uuid="GPU-b")


@pytest.mark.parametrize(
    ("rule", "capacity_mib"),
    [
        (ReserveRule(), 15360 - 500),
        (ReserveRule(declared_mib=1360), 14000),
        (ReserveRule(declared_mib=0), 15360),
        (ReserveRule(1360, {"Tesla T4": 360}), 15000),
        (ReserveRule(1360, {"Tesla V100": 360}), 14000),
        (ReserveRule(mig_mib=9), 15360 - 500),
    ],
)
def test_a_declared_reserve_counts_before_the_measured_one(rule: ReserveRule, capacity_mib: int) -> None:
    (one,) = looked((), Look((card(0, "GPU-a"),)), rule).known
    assert one.device.capacity_mib == capacity_mib


@pytest.mark.parametrize(
    ("reading", "rule", "problem"),
    [
        (card(0, "GPU-a", reserved=None), ReserveRule(), "declare a reserve"),
        (card(0, "GPU-a"), ReserveRule(15360), "a reserve of 15360 MiB leaves nothing of 15360 MiB"),
        (card(0, ""), ReserveRule(0), "does not tell its memory or uuid"),
    ],
)
def test_a_card_that_cannot_be_counted_is_not_published_and_is_named(
    reading: GpuReading, rule: ReserveRule, problem: str
) -> None:
    outcome = looked((), Look((reading,)), rule)
    assert outcome.known == ()
    assert problem in outcome.problems["GPU 0"]


def test_mig_devices_are_devices_of_their_own_with_their_profile() -> None:
    reading = mig_card(1, "GPU-m", "1g.10gb", "2g.20gb+me")
    outcome = looked((), Look((card(0, "GPU-a"), reading)), ReserveRule(1360))
    devices = shown(outcome)
    assert list(devices) == ["gpu-0", "gpu-1-mig-0", "gpu-1-mig-1"]
    assert devices["gpu-1-mig-0"].mig_profile == "1g.10gb"
    assert devices["gpu-1-mig-1"].mig_profile == "2g.20gb+me"
    assert devices["gpu-1-mig-0"].capacity_mib == 10240 - 12, "a card's reserve says nothing about its parts"


def test_a_mig_profile_that_nobody_declared_is_not_published() -> None:
    reading = mig_card(0, "GPU-m", "1g.10gb", "3g.40gb")
    outcome = looked((), Look((reading,)), ReserveRule(), mig_profiles=frozenset({"1g.10gb"}))
    assert [one.device.mig_profile for one in outcome.known] == ["1g.10gb"]
    assert "3g.40gb is not among those declared (1g.10gb)" in outcome.problems["GPU 0.1"]


def test_a_name_stays_with_its_card_when_nvml_numbers_the_others_anew() -> None:
    renumbered = Look((card(0, "GPU-b"),))
    devices = shown(after(TWO, *[renumbered] * FORGOTTEN_AFTER_LOOKS))
    assert [(one.name, one.uuid, one.index) for one in devices.values()] == [("gpu-1", "GPU-b", 0)]
    replaced = Look((card(0, "GPU-b"), card(1, "GPU-new")))
    devices = shown(after(TWO, *[renumbered] * FORGOTTEN_AFTER_LOOKS, replaced))
    assert {name: one.uuid for name, one in devices.items()} == {"gpu-1": "GPU-b", "gpu-2": "GPU-new"}


def test_a_driver_that_does_not_answer_leaves_all_as_it_was_and_then_taints_it() -> None:
    silent = Look(None, Fault(Failure.DRIVER, "Driver Not Loaded"))
    once = after(TWO, *[silent] * (UNKNOWN_AFTER_LOOKS - 1))
    assert shown(once) == shown(after(TWO))
    assert once.problems == {"driver": "Driver Not Loaded"}
    tainted = shown(after(TWO, *[silent] * UNKNOWN_AFTER_LOOKS))
    assert {one.taints for one in tainted.values()} == {(Taint("unknown", "NoSchedule"),)}
    assert {one.capacity_mib for one in tainted.values()} == {15360 - 500}
    assert shown(after(TWO, *[silent] * 30, TWO)) == shown(after(TWO))


def test_a_hung_card_is_tainted_and_its_neighbour_is_not() -> None:
    look = Look((failed(0, "GPU-a", HUNG), card(1, "GPU-b")))
    devices = shown(after(TWO, *[look] * UNKNOWN_AFTER_LOOKS))
    assert devices["gpu-0"].taints == (Taint("unknown", "NoSchedule"),)
    assert not devices["gpu-0"].lost
    assert devices["gpu-1"].taints == ()


def test_a_lost_card_moves_its_pods_at_once() -> None:
    look = Look((failed(0, "GPU-a", LOST), card(1, "GPU-b")))
    devices = shown(after(TWO, look))
    assert devices["gpu-0"].taints == (Taint("lost", "NoExecute"),)
    assert devices["gpu-0"].lost
    assert shown(after(TWO, look, TWO)) == shown(after(TWO))


def test_a_lost_card_takes_its_mig_devices_with_it() -> None:
    there = Look((mig_card(0, "GPU-m", "1g.10gb", "1g.10gb"),))
    devices = shown(after(there, Look((failed(0, "GPU-m", LOST),))))
    assert all(one.lost for one in devices.values())
    assert len(devices) == 2


def read_back(outcome: Outcome) -> tuple[KnownDevice, ...]:
    """As a new process finds them in the slice: without the card of a MIG device."""
    return tuple(KnownDevice(replace(one.device, card_uuid="")) for one in outcome.known)


@pytest.mark.parametrize("fault", [HUNG, Fault(Failure.NVML_ERROR, "unknown error")])
def test_to_a_new_process_a_failed_card_is_unknown_and_not_gone(fault: Fault) -> None:
    there = Look((card(0, "GPU-a"), mig_card(1, "GPU-m", "1g.10gb")))
    known = read_back(after(there))
    for look in (
        Look((failed(0, "", fault), mig_card(1, "GPU-m", "1g.10gb"))),
        Look((card(0, "GPU-a"), failed(1, "", fault))),
        Look((card(0, "GPU-a"), failed(1, "GPU-m", fault))),
    ):
        devices = shown(after(*[look] * FORGOTTEN_AFTER_LOOKS, known=known))
        tainted = [one.taints for one in devices.values() if one.taints]
        assert tainted == [(Taint("unknown", "NoSchedule"),)]
        assert len(devices) == 2


def test_to_a_new_process_a_card_that_the_driver_calls_lost_is_lost() -> None:
    devices = shown(after(Look((failed(0, "", LOST), card(1, "GPU-b"))), known=read_back(after(TWO))))
    assert [one.lost for one in devices.values()] == [True, False]


def test_a_card_that_is_gone_is_lost_first_and_forgotten_when_nothing_uses_it() -> None:
    gone = Look((card(1, "GPU-b"),))
    assert shown(after(TWO, gone))["gpu-0"].lost
    assert list(shown(after(TWO, *[gone] * FORGOTTEN_AFTER_LOOKS))) == ["gpu-1"]
    used = after(TWO, *[gone] * (3 * FORGOTTEN_AFTER_LOOKS), in_use=frozenset({"GPU-a"}))
    assert shown(used)["gpu-0"].lost


@pytest.mark.parametrize(("xid", "tainted"), [(48, True), (79, True), (13, False), (31, False), (43, False)])
def test_an_xid_of_the_hardware_taints_and_one_of_an_application_does_not(xid: int, tainted: bool) -> None:
    look = replace(TWO, xid_counts={(Gpu(0, "GPU-a", "Tesla T4"), xid): 1})
    devices = shown(after(look, TWO))
    assert devices["gpu-0"].taints == ((Taint("xid", "NoSchedule", str(xid)),) if tainted else ())
    assert devices["gpu-1"].taints == ()


def test_an_xid_of_a_card_taints_its_mig_devices() -> None:
    look = Look((mig_card(0, "GPU-m", "1g.10gb"),), xid_counts={(Gpu(0, "GPU-m", "A100"), 95): 2})
    assert shown(after(look))["gpu-0-mig-0"].taints == (Taint("xid", "NoSchedule", "95"),)
