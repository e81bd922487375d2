"""What ResourceSlices offer and ResourceClaims hold, read from the API's objects (resource.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from helpers.domain.dra import naming
from helpers.domain.dra.slice_document import memory_mib

Manifest = Mapping[str, Any]
CardKey = tuple[str, str, str]
"""Driver, pool and device: what an allocation calls a card."""


@dataclass(frozen=True, slots=True)
class OfferedCard:
    """One card, or one MIG slice, that a node offers memory of. No new claim gets a card with `taints`."""

    node: str
    key: CardKey
    memory_mib: int
    uuid: str = ""
    model: str = ""
    taints: tuple[str, ...] = ()

    @property
    def device(self) -> str:
        """`gpu-0`."""
        return self.key[2]


@dataclass(frozen=True, slots=True)
class HeldMemory:
    """Memory of one card that one claim has; `pods` are the names of those that use the claim."""

    namespace: str
    claim: str
    key: CardKey
    memory_mib: int
    pods: tuple[str, ...]
    labels: Mapping[str, str]


def offered_cards(slices: Iterable[Manifest], driver: str) -> tuple[OfferedCard, ...]:
    """The cards of `driver`, by node and device. A pool's older generations are not offered any more.

    Raises:
        QuantityError: a capacity cannot be read; names slice and device.
    """
    cards = [card for item in _current(slices, driver) for card in _cards(item)]
    return tuple(sorted(cards, key=lambda card: (card.node, _natural(card.device))))


def held_memory(claims: Iterable[Manifest], driver: str) -> tuple[HeldMemory, ...]:
    """What allocated claims have of `driver`'s cards, by namespace and claim.

    Raises:
        QuantityError: an amount cannot be read; names the claim.
    """
    return tuple(held for claim in claims for held in _held(claim, driver))


def claim_pods(claim: Manifest) -> tuple[str, ...]:
    """Names of the pods that use a claim; they are in its namespace."""
    users = (claim.get("status") or {}).get("reservedFor") or ()
    return tuple(one["name"] for one in users if one.get("resource") == "pods")


def claim_pod_uids(claim: Manifest) -> tuple[str, ...]:
    """Uids of the pods that use a claim: a StatefulSet's new pod has its predecessor's name."""
    users = (claim.get("status") or {}).get("reservedFor") or ()
    return tuple(str(one["uid"]) for one in users if one.get("resource") == "pods")


def device_uuids(slices: Iterable[Manifest], driver: str) -> dict[CardKey, str]:
    """`{card as an allocation calls it: its uuid}` of the devices of `driver` that tell one; their memory aside."""
    found: dict[CardKey, str] = {}
    for item in _current(slices, driver):
        for device in item["spec"].get("devices") or ():
            if uuid := _text(device, naming.UUID_ATTRIBUTE):
                found[driver, item["spec"]["pool"]["name"], device["name"]] = uuid
    return found


def _current(slices: Iterable[Manifest], driver: str) -> Iterator[Manifest]:
    mine = [item for item in slices if item["spec"]["driver"] == driver]
    newest: dict[str, int] = {}
    for item in mine:
        pool = item["spec"]["pool"]
        newest[pool["name"]] = max(newest.get(pool["name"], 0), int(pool["generation"]))
    return (item for item in mine if int(item["spec"]["pool"]["generation"]) == newest[item["spec"]["pool"]["name"]])


def _text(device: Manifest, attribute: str) -> str:
    return str(((device.get("attributes") or {}).get(attribute) or {}).get("string", ""))


def _cards(item: Manifest) -> Iterator[OfferedCard]:
    spec = item["spec"]
    for device in spec.get("devices") or ():
        memory = (device.get("capacity") or {}).get(naming.MEMORY_CAPACITY)
        if memory is None or not device.get("allowMultipleAllocations"):
            continue
        where = f"ResourceSlice {item['metadata']['name']} device {device['name']} {naming.MEMORY_CAPACITY}"
        yield OfferedCard(
            node=str(spec.get("nodeName", "")),
            key=(spec["driver"], spec["pool"]["name"], device["name"]),
            memory_mib=memory_mib(memory["value"], where),
            uuid=_text(device, naming.UUID_ATTRIBUTE),
            model=_text(device, naming.MODEL_ATTRIBUTE),
            taints=tuple(f"{taint['key']}:{taint['effect']}" for taint in device.get("taints") or ()),
        )


def _held(claim: Manifest, driver: str) -> Iterator[HeldMemory]:
    metadata, status, pods = claim["metadata"], claim.get("status") or {}, claim_pods(claim)
    for result in ((status.get("allocation") or {}).get("devices") or {}).get("results") or ():
        amount = (result.get("consumedCapacity") or {}).get(naming.MEMORY_CAPACITY)
        if result["driver"] != driver or amount is None:
            continue
        where = f"ResourceClaim {metadata['namespace']}/{metadata['name']} {naming.MEMORY_CAPACITY}"
        yield HeldMemory(
            namespace=metadata["namespace"],
            claim=metadata["name"],
            key=(driver, result["pool"], result["device"]),
            memory_mib=memory_mib(amount, where),
            pods=pods,
            labels=dict(metadata.get("labels") or {}),
        )


def _natural(device: str) -> tuple[tuple[int, int | str], ...]:
    """`gpu-2` before `gpu-10`."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in device.split("-"))
