"""What is to be done about a node's slices.

One slice holds the whole pool. The generation grows with every change of it, also after somebody
deleted the slice, so that no scheduler ever mixes an old slice of the pool with a new one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.domain.dra import naming
from helpers.domain.dra.devices import KnownDevice
from helpers.domain.dra.runtime import without_cdi
from helpers.domain.dra.slice_document import BOOT_ID_ANNOTATION, NodeIdentity, desired_slice

Manifest = Mapping[str, Any]

NVIDIA_DRIVER = "gpu.nvidia.com"


@dataclass(frozen=True, slots=True)
class Publish:
    """Write `manifest`, and delete `others`, slices of ours that should not be there."""

    manifest: Manifest
    others: tuple[Manifest, ...] = ()


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Delete these slices of ours. `refused`: for a reason that a person has to mend."""

    slices: tuple[Manifest, ...]
    reason: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing is to be done. Not `settled`: for want of a Node or of a card that could be read."""

    reason: str
    settled: bool = True
    refused: bool = False


SliceAction = Publish | Withdraw | Keep


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
        return Keep("there is no such Node object", settled=False)
    if reason := without_cdi(node.runtime):
        return Withdraw(ours, reason, refused=True) if ours else Keep(reason, refused=True)
    standing_back = any(map(shares_memory, slices))
    if standing_back and not in_use:
        reason = f"driver {NVIDIA_DRIVER} publishes shared memory on this node"
        return Withdraw(ours, reason) if ours else Keep(reason)
    if known is None:
        return Keep("no card could be read yet", settled=False)
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
