"""A hold: a claim that nobody uses, for the memory of a pod that claims cannot see."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from helpers.domain import names
from helpers.domain.dra.claims import CLAIM
from helpers.domain.dra.migration import OldPod
from helpers.domain.dra.naming import DEVICE_CLASS, MEMORY_CAPACITY
from helpers.domain.dra.offers import OfferedCard
from helpers.domain.dra.slice_document import API_VERSION, memory_quantity

# One request a card; the API takes no more results in one claim.
MOST_CARDS_COUNT = 32


def hold_label(label_prefix: str) -> str:
    """The label of every hold, with the uid of the pod that it is for."""
    return f"{label_prefix}/holds-for-pod"


def hold_name(pod: OldPod) -> str:
    """One for each pod, so that a second run makes no second one."""
    return f"gpumem-hold-{pod.uid}"


def hold_claim(pod: OldPod, cards: Sequence[OfferedCard], namespace: str, label_prefix: str) -> dict[str, Any]:
    """The claim as it is created: a request for each card that the pod may be on."""
    exactly = {
        "deviceClassName": DEVICE_CLASS,
        "capacity": {"requests": {MEMORY_CAPACITY: memory_quantity(pod.budget_mib)}},
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "ResourceClaim",
        "metadata": {
            "name": hold_name(pod),
            "namespace": namespace,
            "labels": {**names.MANAGED_BY, hold_label(label_prefix): pod.uid},
        },
        "spec": {
            "devices": {"requests": [{"name": _request(index), "exactly": exactly} for index in range(len(cards))]}
        },
    }


def hold_allocation(pod: OldPod, cards: Sequence[OfferedCard]) -> dict[str, Any]:
    """The status that makes the scheduler count it."""
    return {"status": {"allocation": {"devices": {"results": [_result(pod, i, card) for i, card in enumerate(cards)]}}}}


def _result(pod: OldPod, index: int, card: OfferedCard) -> dict[str, Any]:
    driver, pool, device = card.key
    return {
        "request": _request(index),
        "driver": driver,
        "pool": pool,
        "device": device,
        "shareID": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{pod.uid}/{pool}/{device}")),
        "consumedCapacity": {MEMORY_CAPACITY: memory_quantity(pod.budget_mib)},
    }


def _request(index: int) -> str:
    return f"{CLAIM}-{index}"
