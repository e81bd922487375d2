"""The ResourceSlice of a node's pool as a document: written from devices, and read back into them."""

from __future__ import annotations

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
BOOT_ID_ANNOTATION = f"{naming.DRIVER}/boot-id"
# The API server takes no more where devices carry taints; further slices of the pool are not written.
MOST_DEVICES_COUNT = 64
_LONGEST_NAME = 253
_LONGEST_ATTRIBUTE = 64


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """The Node object that the pool belongs to. `boot_id` changes when the machine starts anew.

    `runtime` is the container runtime as the kubelet reports it, such as `containerd://2.1.4`.
    """

    name: str
    uid: str
    boot_id: str = ""
    runtime: str = ""


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
    xids = taints.get(qualified("xid"), "") if same_boot else ""
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
        found, lost=qualified("lost") in taints, xids=frozenset(int(code) for code in xids.split("-") if code)
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
    taint = {"key": qualified(key), "effect": effect}
    return taint | ({"value": value} if value else {})


def qualified(key: str) -> str:
    """A taint's key with the driver's domain."""
    return f"{naming.DRIVER}/{key}"
