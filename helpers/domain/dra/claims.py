"""A tenant's budget as a claim: what its template is called, and what it asks a card for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from helpers.domain.dra import naming
from helpers.domain.dra.slice_document import memory_quantity
from helpers.domain.dra.slices import NVIDIA_DRIVER
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant

CLAIM = "gpumem"
"""What the claim is called in a pod, and the request in the claim."""
TEMPLATE_PREFIX = f"{CLAIM}-"
"""How the names of all rendered templates begin."""

_NVIDIA_MODEL_ATTRIBUTE = "productName"


def driver_of(estate: Estate) -> str:
    """The driver whose devices claims take."""
    return naming.DRIVER if estate.budget.published_by == "agent" else NVIDIA_DRIVER


def device_class_expression(estate: Estate) -> str:
    """CEL: which devices are cards that share their memory."""
    # NVIDIA's driver publishes more than shared cards under one name.
    shared = "" if estate.budget.published_by == "agent" else " && device.allowMultipleAllocations == true"
    return f'device.driver == "{driver_of(estate)}"{shared}'


def claim_template_name(estate: Estate, tenant: Tenant) -> str:
    """The name of the tenant's ResourceClaimTemplate.

    A template cannot be changed, so what it asks for is in its name: with another budget it is another one.
    """
    name = f"{TEMPLATE_PREFIX}{tenant.name}-{tenant.budget_mib}"
    details = "|".join(text for text in (tenant.gpu_model, *_publisher_mark(estate)) if text)
    return f"{name}-{hashlib.sha256(details.encode()).hexdigest()[:6]}" if details else name


def _publisher_mark(estate: Estate) -> tuple[str, ...]:
    # Only where it changes what the template says: the model's attribute is the driver's.
    return () if estate.budget.published_by == "agent" else (estate.budget.published_by,)


def claim_requests(estate: Estate, tenant: Tenant) -> list[dict[str, Any]]:
    """`spec.devices.requests`: memory of one card, of the tenant's model where it names one."""
    exactly: dict[str, Any] = {
        "deviceClassName": naming.DEVICE_CLASS,
        "allocationMode": "ExactCount",
        "count": 1,
        "capacity": {"requests": {naming.MEMORY_CAPACITY: memory_quantity(tenant.budget_mib)}},
    }
    if tenant.gpu_model is not None:
        attribute = naming.MODEL_ATTRIBUTE if estate.budget.published_by == "agent" else _NVIDIA_MODEL_ATTRIBUTE
        model = tenant.gpu_model.replace("\\", "\\\\").replace('"', '\\"')
        expression = f'device.attributes["{driver_of(estate)}"].{attribute} == "{model}"'
        exactly["selectors"] = [{"cel": {"expression": expression}}]
    return [{"name": CLAIM, "exactly": exactly}]


def with_claim(pod: Mapping[str, Any], container: str, template: str) -> dict[str, Any]:
    """The PodSpec `pod` whose `container` has the claim that `template` makes; other claims stay."""
    return {
        **pod,
        "resourceClaims": _put(pod.get("resourceClaims"), {"name": CLAIM, "resourceClaimTemplateName": template}),
        "containers": [_using(item) if item.get("name") == container else item for item in pod["containers"]],
    }


def second_claims(pod: Mapping[str, Any], container: str) -> list[int]:
    """Places in `pod.resourceClaims` of rendered templates that `container` uses besides its own budget's."""
    mine = [item.get("resources") or {} for item in pod.get("containers") or () if item.get("name") == container]
    used = {item.get("name") for resources in mine for item in resources.get("claims") or ()} - {CLAIM}
    return [
        place
        for place, entry in enumerate(pod.get("resourceClaims") or ())
        if entry.get("name") in used and str(entry.get("resourceClaimTemplateName", "")).startswith(TEMPLATE_PREFIX)
    ]


def _using(container: Mapping[str, Any]) -> dict[str, Any]:
    resources = {**(container.get("resources") or {})}
    return {**container, "resources": {**resources, "claims": _put(resources.get("claims"), {"name": CLAIM})}}


def _put(entries: Sequence[Mapping[str, Any]] | None, entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """`entries` with `entry` in the place of the one of its name, or behind them."""
    found = list(entries or ())
    if all(item.get("name") != entry["name"] for item in found):
        return [*found, entry]
    return [entry if item.get("name") == entry["name"] else item for item in found]
