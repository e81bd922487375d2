"""A node's cards as devices of its pool: which there are, what each offers, what stands against using it.

A card that cannot be read keeps the figures of its last good look, with a taint: unknown is not zero,
and a device that went away for a moment would leave its claims on nothing. Names stay with the uuid,
because NVML numbers the cards anew when one is gone: `gpu-0` must not become another card's name.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from helpers.domain.dra import naming
from helpers.domain.estate.mig import PROFILE
from helpers.domain.memory import BYTES_PER_MIB, bytes_to_mib_rounded_up
from helpers.domain.telemetry.reading import DeviceReading, Failure, Fault, Gpu, GpuReading

Effect = Literal["NoSchedule", "NoExecute"]

# One failed look happens; three in a row mean that nobody should be put on that card.
UNKNOWN_AFTER_LOOKS = 3
# How long a card that is gone is shown as lost, so that the pods on it are moved before it is forgotten.
FORGOTTEN_AFTER_LOOKS = 12
# What needs a reset or a new card (NVIDIA's XID catalogue). Faults of an application (13, 31, 43, 45) are not in it.
HARDWARE_XIDS = frozenset({48, 62, 64, 74, 79, 95, 119, 120, 140})


@dataclass(frozen=True, slots=True)
class Taint:
    """Keeps claims off a device. `key` is without the driver's domain."""

    key: Literal["lost", "unknown", "xid", "nvidia-driver"]
    effect: Effect
    value: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """One device as it is published. `card_uuid` is the uuid of the card that a MIG device is part of."""

    name: str
    uuid: str
    model: str
    index: int
    capacity_mib: int
    mig_profile: str = ""
    card_uuid: str = ""
    taints: tuple[Taint, ...] = ()

    @property
    def lost(self) -> bool:
        """Whether no container can be started on it."""
        return any(taint.key == "lost" for taint in self.taints)


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A device and how the looks at it went. `xids` are hardware errors since the machine started."""

    device: Device
    failed_looks: int = 0
    lost: bool = False
    xids: frozenset[int] = frozenset()

    def published(self, *, standing_back: bool = False) -> Device:
        """The device with the taints that its looks give it."""
        taints: list[Taint] = []
        if self.lost:
            taints.append(Taint("lost", "NoExecute"))
        elif self.failed_looks >= UNKNOWN_AFTER_LOOKS:
            taints.append(Taint("unknown", "NoSchedule"))
        if self.xids:
            taints.append(Taint("xid", "NoSchedule", "-".join(map(str, sorted(self.xids)))))
        if standing_back:
            taints.append(Taint("nvidia-driver", "NoSchedule"))
        return replace(self.device, taints=tuple(taints))


@dataclass(frozen=True, slots=True)
class ReserveRule:
    """What of a card is promised to nobody, MiB.

    `declared_mib` holds for every card, `by_model_mib` for one model, `mig_mib` for every MIG device (a
    card's reserve says nothing about its parts). Where none is declared, NVML's reserved part is taken.
    """

    declared_mib: int | None = None
    by_model_mib: Mapping[str, int] | None = None
    mig_mib: int | None = None

    def of(self, gpu: Gpu, measured_bytes: int | None) -> int | None:
        """The reserve of one device; None where neither the settings nor the driver tells it."""
        declared = self.mig_mib if gpu.is_mig else (self.by_model_mib or {}).get(gpu.model, self.declared_mib)
        if declared is not None:
            return declared
        return None if measured_bytes is None else bytes_to_mib_rounded_up(measured_bytes)


@dataclass(frozen=True, slots=True)
class Look:
    """One look at all cards; `readings` is None where the driver itself could not be asked."""

    readings: tuple[GpuReading, ...] | None
    fault: Fault | None = None
    xid_counts: Mapping[tuple[Gpu, int], int] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known after a look. `problems` is `{card or device: why it is not as it should be}`."""

    known: tuple[KnownDevice, ...]
    problems: Mapping[str, str]


def looked(
    known: tuple[KnownDevice, ...],
    look: Look,
    reserve: ReserveRule,
    *,
    in_use: frozenset[str] = frozenset(),
    mig_profiles: frozenset[str] = frozenset(),
) -> Outcome:
    """What is known after `look`.

    Args:
        known: After the look before, or read back from the slice that is published.
        look: What NVML said now.
        reserve: What is kept from every card.
        in_use: Uuids of devices that prepared claims are on; such a device is never forgotten.
        mig_profiles: The profiles that the estate counts on; empty: any.
    """
    if look.readings is None:
        problems = {"driver": look.fault.detail if look.fault else "no answer"}
        return Outcome(tuple(replace(one, failed_looks=one.failed_looks + 1) for one in known), problems)
    seen = _Seen(reserve, mig_profiles)
    for reading in look.readings:
        seen.card(reading)
    kept = [after for one in known if (after := _after(one, seen, in_use)) is not None]
    taken = {one.device.name for one in kept}
    for uuid in sorted(seen.good.keys() - {one.device.uuid for one in kept}, key=lambda u: seen.order[u]):
        name = _free_name(seen.order[uuid], taken)
        taken.add(name)
        kept.append(KnownDevice(replace(seen.good[uuid], name=name)))
    counts = look.xid_counts or {}
    return Outcome(tuple(_with_xids(one, counts) for one in sorted(kept, key=_by_name)), seen.problems)


class _Seen:
    """One look, sorted into what is good and what failed."""

    def __init__(self, reserve: ReserveRule, mig_profiles: frozenset[str]) -> None:
        self._reserve = reserve
        self._mig_profiles = mig_profiles
        self.good: dict[str, Device] = {}
        self.order: dict[str, tuple[int, int]] = {}
        self.failed: dict[str, Fault] = {}
        self.failed_cards: dict[str, Fault] = {}
        # By index: a card that does not even tell its uuid, to a process that never saw it well.
        self.unnamed: dict[int, Fault] = {}
        self.problems: dict[str, str] = {}

    def card(self, reading: GpuReading) -> None:
        """Takes in one card with its devices."""
        if reading.fault is not None:
            self.problems[f"GPU {reading.gpu.label}"] = reading.fault.detail
            if reading.gpu.uuid:
                self.failed_cards[reading.gpu.uuid] = reading.fault
            else:
                self.unnamed[reading.gpu.index] = reading.fault
        for device in reading.devices:
            problem = self._device(reading.gpu, device)
            if problem is not None:
                self.problems[f"GPU {device.gpu.label}"] = problem.detail
                self.failed[device.gpu.uuid] = problem

    def fault_of(self, device: Device) -> Fault | None:
        """What failed of a device that is not good; None where every card answered, and it is on none of them."""
        fault = self.failed.get(device.uuid) or self.failed_cards.get(device.card_uuid or device.uuid)
        if fault is None and self.unnamed:
            at_its_place = self.unnamed.get(device.index)
            return at_its_place or Fault(Failure.NVML_ERROR, "it may be the card that does not tell its uuid")
        if fault is None and not device.card_uuid and self.failed_cards:
            # Read back from a slice, which does not tell the card of a MIG device.
            return Fault(Failure.NVML_ERROR, "it may be on the card that failed")
        return fault

    def _device(self, card: Gpu, reading: DeviceReading) -> Fault | None:
        gpu, memory = reading.gpu, reading.memory
        if memory is None or not gpu.uuid:
            return reading.fault or Fault(Failure.MEMORY_UNKNOWN, "the driver does not tell its memory or uuid")
        profile = mig_profile(gpu)
        if profile and self._mig_profiles and profile not in self._mig_profiles:
            declared = ", ".join(sorted(self._mig_profiles))
            return Fault(Failure.NVML_ERROR, f"MIG profile {profile} is not among those declared ({declared})")
        reserve_mib = self._reserve.of(gpu, memory.reserved_bytes)
        if reserve_mib is None:
            return Fault(Failure.MEMORY_UNKNOWN, "the driver does not tell its reserved part: declare a reserve")
        physical_mib = memory.total_bytes // BYTES_PER_MIB
        if reserve_mib >= physical_mib:
            return Fault(Failure.MEMORY_UNKNOWN, f"a reserve of {reserve_mib} MiB leaves nothing of {physical_mib} MiB")
        self.order[gpu.uuid] = (gpu.index, -1 if gpu.mig_number is None else gpu.mig_number)
        self.good[gpu.uuid] = Device(
            "", gpu.uuid, gpu.model, gpu.index, physical_mib - reserve_mib, profile, card.uuid or gpu.uuid
        )
        return None


def mig_profile(gpu: Gpu) -> str:
    """The profile of a MIG device as its name shows it (`NVIDIA A100-SXM4-80GB MIG 1g.10gb`); else empty."""
    found = PROFILE.search(gpu.mig_name) if gpu.is_mig else None
    return found[0] if found else ""


def _after(one: KnownDevice, seen: _Seen, in_use: frozenset[str]) -> KnownDevice | None:
    device = one.device
    if good := seen.good.get(device.uuid):
        return replace(one, device=replace(good, name=device.name), failed_looks=0, lost=False)
    fault = seen.fault_of(device)
    failed_looks = one.failed_looks + 1
    if fault is not None:
        return replace(one, failed_looks=failed_looks, lost=one.lost or fault.failure is Failure.GPU_LOST)
    # All cards answered, and it is none of them.
    if failed_looks >= FORGOTTEN_AFTER_LOOKS and device.uuid not in in_use:
        return None
    return replace(one, failed_looks=failed_looks, lost=True)


def _free_name(order: tuple[int, int], taken: Iterable[str]) -> str:
    index, number = order
    mig_number = None if number < 0 else number
    names: Iterator[str] = (naming.device_name(each, mig_number) for each in itertools.count(index))
    return next(name for name in names if name not in taken)


def _with_xids(one: KnownDevice, counts: Mapping[tuple[Gpu, int], int]) -> KnownDevice:
    card = one.device.card_uuid or one.device.uuid
    new = {code for (gpu, code) in counts if gpu.uuid == card and code in HARDWARE_XIDS}
    return replace(one, xids=one.xids | new) if new - one.xids else one


def _by_name(one: KnownDevice) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in one.device.name.split("-")]
