"""The ResourceSlice of a node's pool: what is published, what is found there, and what to do about the difference.

One slice holds the whole pool. The generation grows with every change of it, also after somebody
deleted the slice, so that no scheduler ever mixes an old slice of the pool with a new one.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from helpers.domain.dra import naming
from helpers.domain.dra.devices import Device, KnownDevice
from helpers.domain.errors import CheckFailed, QuantityError
from helpers.domain.memory import BYTES_PER_MIB, mib_to_bytes
from helpers.domain.quantity import Quantity

Manifest = Mapping[str, Any]

API_VERSION = "resource.k8s.io/v1"
NVIDIA_DRIVER = "gpu.nvidia.com"
BOOT_ID_ANNOTATION = f"{naming.DRIVER}/boot-id"
# The API server takes no more where devices carry taints; further slices of the pool are not written.
MOST_DEVICES_COUNT = 64
_LONGEST_NAME = 253
_LONGEST_ATTRIBUTE = 64


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """The Node object that the pool belongs to. `boot_id` changes when the machine starts anew."""

    name: str
    uid: str
    boot_id: str = ""


@dataclass(frozen=True, slots=True)
class Publish:
    """Write `manifest`, and delete `others`, slices of ours that should not be there."""

    manifest: Manifest
    others: tuple[Manifest, ...] = ()


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Delete these slices of ours."""

    slices: tuple[Manifest, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing is to be done."""

    reason: str


SliceAction = Publish | Withdraw | Keep


def slice_name(node: str) -> str:
    """One name for each node's slice, so that no two of them can ever be made."""
    name = f"{node}-{naming.DRIVER}"
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(node.encode()).hexdigest()[:12]
    return f"{node[: _LONGEST_NAME - len(naming.DRIVER) - 14]}-{digest}-{naming.DRIVER}"


def memory_quantity(mib: int) -> str:
    """`24576` → `24Gi`: the spelling that the API server keeps."""
    return Quantity(Fraction(mib_to_bytes(mib)), "BinarySI").canonical()


def memory_mib(text: object, subject: str) -> int:
    """Whole MiB of a memory quantity; `subject` names object and field.

    Raises:
        QuantityError: It is no quantity, or no whole number of MiB.
    """
    mib = Quantity.parse(str(text)).value / BYTES_PER_MIB
    if mib.denominator != 1 or mib < 0:
        raise QuantityError(f"{subject}: {text} is no whole number of MiB, which every gpumem device deals in")
    return mib.numerator


def desired_slice(node: NodeIdentity, devices: Sequence[Device], generation: int) -> dict[str, Any]:
    """The slice as it should be.

    Raises:
        CheckFailed: More devices than one slice holds.
    """
    if len(devices) > MOST_DEVICES_COUNT:
        raise CheckFailed(
            f"node {node.name} has {len(devices)} devices, and a slice whose devices may be tainted holds "
            f"{MOST_DEVICES_COUNT}: none is published. Split the cards into fewer MIG devices."
        )
    return {
        "apiVersion": API_VERSION,
        "kind": "ResourceSlice",
        "metadata": {
            "name": slice_name(node.name),
            "annotations": {BOOT_ID_ANNOTATION: node.boot_id},
            # Not as its controller: the Node only takes the slice with it when it goes.
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node.name, "uid": node.uid}],
        },
        "spec": {
            "driver": naming.DRIVER,
            "nodeName": node.name,
            "pool": {"name": node.name, "generation": generation, "resourceSliceCount": 1},
            "devices": [_device(device) for device in devices],
        },
    }


def decide(
    node: NodeIdentity | None,
    slices: Sequence[Manifest],
    known: Sequence[KnownDevice] | None,
    *,
    last_generation: int,
    in_use: bool,
) -> SliceAction:
    """What is to be done about this node's slices.

    Args:
        node: None where there is no such Node object: then nothing may be published.
        slices: All slices of the node, of every driver.
        known: The devices; None where no card was ever read and none was published.
        last_generation: The highest generation seen or written.
        in_use: Whether claims are prepared on devices of ours.

    Raises:
        CheckFailed: More devices than one slice holds.
    """
    ours = tuple(item for item in slices if item["spec"]["driver"] == naming.DRIVER)
    if node is None:
        return Keep("there is no such Node object")
    standing_back = any(map(shares_memory, slices))
    if standing_back and not in_use:
        reason = f"driver {NVIDIA_DRIVER} publishes shared memory on this node"
        return Withdraw(ours, reason) if ours else Keep(reason)
    if known is None:
        return Keep("no card could be read yet")
    if not known:
        return Withdraw(ours, "the node has no card") if ours else Keep("the node has no card")
    highest = max([last_generation, *(int(item["spec"]["pool"]["generation"]) for item in ours)])
    wanted = desired_slice(node, [one.published(standing_back=standing_back) for one in known], highest + 1)
    mine = next((item for item in ours if item["metadata"]["name"] == wanted["metadata"]["name"]), None)
    others = tuple(item for item in ours if item is not mine)
    if mine is None:
        return Publish(wanted, others)
    if same(wanted, mine) and not others:
        return Keep("it is as it should be")
    return Publish(_with_times(wanted, mine), others)


def same(wanted: Manifest, found: Manifest) -> bool:
    """Whether `found` says what `wanted` does, generation and times of taints aside."""
    return _comparable(wanted) == _comparable(found)


def shares_memory(item: Manifest) -> bool:
    """Whether a slice is NVIDIA's own and lets several claims share a device's memory."""
    if item["spec"]["driver"] != NVIDIA_DRIVER:
        return False
    return any(
        device.get("allowMultipleAllocations") and naming.MEMORY_CAPACITY in (device.get("capacity") or {})
        for device in item["spec"].get("devices") or ()
    )


def shares_are_kept(answer: Manifest) -> bool:
    """Whether the API server kept what makes a device shareable; without DRAConsumableCapacity it drops it."""
    devices = answer["spec"].get("devices") or ()
    return all(device.get("allowMultipleAllocations") for device in devices)


def published_devices(item: Manifest, boot_id: str) -> tuple[KnownDevice, ...]:
    """The devices of a slice that an earlier process wrote; hardware errors count for the same start of the machine.

    Raises:
        QuantityError: A capacity is no whole number of MiB, so the slice is not ours in more than name.
    """
    metadata = item["metadata"]
    same_boot = bool(boot_id) and (metadata.get("annotations") or {}).get(BOOT_ID_ANNOTATION) == boot_id
    return tuple(_published(device, same_boot=same_boot) for device in item["spec"].get("devices") or ())


def _published(device: Manifest, *, same_boot: bool) -> KnownDevice:
    attributes = {key: next(iter(value.values())) for key, value in (device.get("attributes") or {}).items()}
    taints = {taint["key"]: str(taint.get("value", "")) for taint in device.get("taints") or ()}
    xids = taints.get(_qualified("xid"), "") if same_boot else ""
    found = Device(
        name=device["name"],
        uuid=str(attributes.get(naming.UUID_ATTRIBUTE, "")),
        model=str(attributes.get(naming.MODEL_ATTRIBUTE, "")),
        index=int(attributes.get(naming.INDEX_ATTRIBUTE, 0)),
        capacity_mib=memory_mib(
            device["capacity"][naming.MEMORY_CAPACITY]["value"], f"device {device['name']} capacity"
        ),
        mig_profile=str(attributes.get(naming.MIG_PROFILE_ATTRIBUTE, "")),
    )
    return KnownDevice(
        found, lost=_qualified("lost") in taints, xids=frozenset(int(code) for code in xids.split("-") if code)
    )


def _device(device: Device) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        naming.UUID_ATTRIBUTE: {"string": device.uuid},
        naming.MODEL_ATTRIBUTE: {"string": device.model[:_LONGEST_ATTRIBUTE]},
        naming.INDEX_ATTRIBUTE: {"int": device.index},
    }
    if device.mig_profile:
        attributes[naming.MIG_PROFILE_ATTRIBUTE] = {"string": device.mig_profile}
    whole, step = memory_quantity(device.capacity_mib), memory_quantity(1)
    # Who asks for a device and for no memory gets the whole card: nobody then shares it by mistake.
    policy = {"default": whole, "validRange": {"min": step, "max": whole, "step": step}}
    document: dict[str, Any] = {
        "name": device.name,
        "allowMultipleAllocations": True,
        "attributes": attributes,
        "capacity": {naming.MEMORY_CAPACITY: {"value": whole, "requestPolicy": policy}},
    }
    if device.taints:
        document["taints"] = [_taint(taint.key, taint.effect, taint.value) for taint in device.taints]
    return document


def _taint(key: str, effect: str, value: str) -> dict[str, Any]:
    taint = {"key": _qualified(key), "effect": effect}
    return taint | ({"value": value} if value else {})


def _qualified(key: str) -> str:
    return f"{naming.DRIVER}/{key}"


def _comparable(item: Manifest) -> dict[str, Any]:
    metadata, spec = item["metadata"], copy.deepcopy(dict(item["spec"]))
    del spec["pool"]["generation"]
    for device in spec.get("devices") or ():
        for taint in device.get("taints") or ():
            taint.pop("timeAdded", None)
    owners = [(each["kind"], each["uid"]) for each in metadata.get("ownerReferences") or ()]
    return {"owners": owners, "boot": (metadata.get("annotations") or {}).get(BOOT_ID_ANNOTATION), "spec": spec}


def _with_times(wanted: dict[str, Any], found: Manifest) -> dict[str, Any]:
    """Keeps the instant of each taint that stays: tolerations with an end count from it."""
    times = {
        (device["name"], taint["key"], taint.get("value", ""), taint["effect"]): taint["timeAdded"]
        for device in found["spec"].get("devices") or ()
        for taint in device.get("taints") or ()
        if "timeAdded" in taint
    }
    for device in wanted["spec"]["devices"]:
        for taint in device.get("taints") or ():
            key = (device["name"], taint["key"], taint.get("value", ""), taint["effect"])
            if key in times:
                taint["timeAdded"] = times[key]
    return wanted
