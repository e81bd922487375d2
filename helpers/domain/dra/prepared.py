"""A claim that is prepared on this node: what the scheduler granted it, checked, and what its containers are told.

The environment is all that sharing needs: NVIDIA's own runtime shows a container the cards that
`NVIDIA_VISIBLE_DEVICES` names, and whoever caps a framework finds the budget beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from helpers.domain.dra import naming
from helpers.domain.dra.devices import Device
from helpers.domain.dra.slice_document import memory_mib
from helpers.domain.errors import CheckFailed

Manifest = Mapping[str, Any]

CDI_VERSION = "0.3.0"
CDI_KIND = f"{naming.DRIVER}/claim"
ENV_VISIBLE_DEVICES = "NVIDIA_VISIBLE_DEVICES"
ENV_BUDGET_MIB = "GPUMEM_BUDGET_MIB"
ENV_CLAIM = "GPUMEM_CLAIM"
_UID = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,126}[a-z0-9])?")


class ClaimRefused(CheckFailed):
    """A claim that must not be prepared here as it is; the kubelet shows the text on the pod."""


@dataclass(frozen=True, slots=True)
class ClaimRef:
    """Which claim the kubelet means."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        """`tenants/chat-gpumem-x7k2p`."""
        return f"{self.namespace}/{self.name}"


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Grant(_Document):
    """One device of a claim. `share_id` names this share of it among the others."""

    request: str
    pool: str
    device: str
    uuid: str
    share_id: str | None
    granted_mib: int


class PreparedClaim(_Document):
    """A claim whose containers may start."""

    namespace: str
    name: str
    uid: str
    grants: tuple[Grant, ...]

    @property
    def cdi_device(self) -> str:
        """The CDI device's name within its kind."""
        return f"claim-{self.uid}"

    @property
    def cdi_id(self) -> str:
        """The device as a container runtime is told."""
        return f"{CDI_KIND}={self.cdi_device}"

    def uuids(self) -> tuple[str, ...]:
        """The cards, each once, in the order in which they were granted."""
        return tuple(dict.fromkeys(grant.uuid for grant in self.grants))

    def budget_mib(self) -> int:
        """What it may use of each of its cards."""
        per_card: dict[str, int] = {}
        for grant in self.grants:
            per_card[grant.uuid] = per_card.get(grant.uuid, 0) + grant.granted_mib
        return min(per_card.values())


def check_uid(uid: str) -> None:
    """Refuses what is no uid: it becomes part of a file's name.

    Raises:
        ClaimRefused: It is none.
    """
    if _UID.fullmatch(uid) is None:
        raise ClaimRefused(f"claim uid {uid!r} is no uid of the API server's: nothing is done with it")


def prepared_claim(ref: ClaimRef, claim: Manifest | None, *, node: str, devices: Mapping[str, Device]) -> PreparedClaim:
    """The claim as the API server has it now, checked against what this node has.

    Args:
        ref: What the kubelet asked for.
        claim: The object of that name; None where there is none.
        node: This node, whose pool has its name.
        devices: What is published, by name.

    Raises:
        ClaimRefused: It is another claim, or its allocation is not one of this node's devices.
    """
    check_uid(ref.uid)
    if claim is None:
        raise ClaimRefused(f"claim {ref}: there is none; a pod cannot start on a claim that was deleted")
    found_uid = str(claim["metadata"].get("uid", ""))
    if found_uid != ref.uid:
        raise ClaimRefused(
            f"claim {ref}: uid {ref.uid} was asked for, {found_uid} is there: the claim was deleted and made anew, "
            "and the pod of the old one must go"
        )
    allocation = (claim.get("status") or {}).get("allocation")
    if not allocation:
        raise ClaimRefused(f"claim {ref}: it has no allocation, so the scheduler granted it nothing")
    results = _ours(allocation)
    if not results:
        raise ClaimRefused(f"claim {ref}: its allocation has no device of driver {naming.DRIVER}")
    grants = tuple(_grant(ref, item, node, devices) for item in results)
    requests = sorted({grant.request for grant in grants})
    if len(requests) > 1:
        raise ClaimRefused(
            f"claim {ref}: requests {', '.join(requests)} are for gpumem devices, and a container that sees the claim "
            "can be told one budget only: make a claim for each container"
        )
    return PreparedClaim(namespace=ref.namespace, name=ref.name, uid=ref.uid, grants=grants)


def completed(claim: PreparedClaim, found: Manifest) -> PreparedClaim:
    """`claim`, read back from its file, with what only the allocation tells: requests, devices and shares.

    The file holds each card once, in the order of the allocation; where there are more devices than cards,
    nobody can tell which is which, and the claim stays as the file has it.
    """
    results = _ours((found.get("status") or {}).get("allocation") or {"devices": {}})
    if len(results) != len(claim.grants):
        return claim
    grants = tuple(
        Grant(
            request=_request(result),
            pool=str(result.get("pool", "")),
            device=str(result.get("device", "")),
            uuid=grant.uuid,
            share_id=_share_id(result),
            granted_mib=grant.granted_mib,
        )
        for grant, result in zip(claim.grants, results, strict=True)
    )
    return claim.model_copy(update={"grants": grants})


def _ours(allocation: Manifest) -> list[Manifest]:
    return [item for item in allocation["devices"].get("results") or () if item.get("driver") == naming.DRIVER]


def _request(result: Manifest) -> str:
    """Without the alternative that was chosen (`request/alternative`): the kubelet knows the first part only."""
    return str(result.get("request", "")).partition("/")[0]


def _share_id(result: Manifest) -> str | None:
    share_id = result.get("shareID")
    return None if share_id is None else str(share_id)


def _grant(ref: ClaimRef, result: Manifest, node: str, devices: Mapping[str, Device]) -> Grant:
    pool, name = str(result.get("pool", "")), str(result.get("device", ""))
    if pool != node:
        raise ClaimRefused(f"claim {ref}: device {name} is of pool {pool}, and this is node {node}")
    if result.get("adminAccess"):
        raise ClaimRefused(f"claim {ref}: adminAccess gets no budget, and budgets are all that {naming.DRIVER} gives")
    device = devices.get(name)
    if device is None:
        there = ", ".join(sorted(devices)) or "none"
        raise ClaimRefused(f"claim {ref}: device {name} is not on node {node} (there: {there}); delete pod and claim")
    if device.lost:
        raise ClaimRefused(f"claim {ref}: device {name} ({device.uuid}) is lost, no container can start on it")
    consumed = (result.get("consumedCapacity") or {}).get(naming.MEMORY_CAPACITY)
    if consumed is None:
        raise ClaimRefused(
            f"claim {ref}: device {name} was granted without an amount of {naming.MEMORY_CAPACITY}; the API server and "
            "the scheduler need the feature gate DRAConsumableCapacity"
        )
    granted_mib = memory_mib(consumed, f"claim {ref} consumedCapacity")
    return Grant(
        request=_request(result),
        pool=pool,
        device=name,
        uuid=device.uuid,
        share_id=_share_id(result),
        granted_mib=granted_mib,
    )


def cdi_spec(claim: PreparedClaim) -> dict[str, Any]:
    """The claim's CDI specification: one device, which only adds to the environment."""
    env = {
        ENV_VISIBLE_DEVICES: ",".join(claim.uuids()),
        ENV_BUDGET_MIB: str(claim.budget_mib()),
        ENV_CLAIM: f"{claim.namespace}/{claim.name}",
    }
    edits = {"env": [f"{name}={value}" for name, value in env.items()]}
    return {
        "cdiVersion": CDI_VERSION,
        "kind": CDI_KIND,
        "devices": [{"name": claim.cdi_device, "containerEdits": edits}],
    }


def from_cdi_spec(document: Any) -> PreparedClaim:
    """What a CDI specification of ours tells: all but the devices' names, requests and shares.

    Raises:
        CheckFailed: It is none of ours.
    """
    try:
        (device,) = document["devices"]
        env = dict(line.split("=", 1) for line in device["containerEdits"]["env"])
        namespace, name = env[ENV_CLAIM].split("/")
        budget_mib, uid = int(env[ENV_BUDGET_MIB]), str(device["name"]).removeprefix("claim-")
        uuids = env[ENV_VISIBLE_DEVICES].split(",")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckFailed(f"no CDI specification of {naming.DRIVER}: {error!r}") from error
    check_uid(uid)
    grants = tuple(
        Grant(request="", pool="", device="", uuid=uuid, share_id=None, granted_mib=budget_mib) for uuid in uuids
    )
    return PreparedClaim(namespace=namespace, name=name, uid=uid, grants=grants)
