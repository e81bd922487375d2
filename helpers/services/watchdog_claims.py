"""Budgets that are claims: what each pod's claims hold of which card, by watches, and afresh on request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from helpers.domain.dra import naming
from helpers.domain.dra.offers import CardKey, claim_pod_uids, device_uuids, held_memory
from helpers.domain.errors import QuantityError
from helpers.domain.watchdog.facts import CardBudget, PodFacts
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.services.claims import CLAIMS, SLICES
from helpers.services.watch_cache import WatchCache

T = TypeVar("T")


def trimmed_claim(claim: Manifest) -> dict[str, Any]:
    """The part of a ResourceClaim that is read here."""
    status = claim.get("status") or {}
    return {
        **_identity(claim),
        "status": {key: status[key] for key in ("allocation", "reservedFor") if key in status},
    }


def trimmed_slice(item: Manifest) -> dict[str, Any]:
    """The part of a ResourceSlice that is read here: which device has which uuid."""
    spec, uuid = item["spec"], naming.UUID_ATTRIBUTE
    devices = [
        {"name": one["name"], "attributes": {uuid: (one.get("attributes") or {}).get(uuid) or {}}}
        for one in spec.get("devices") or ()
    ]
    return {**_identity(item), "spec": {"driver": spec["driver"], "pool": spec["pool"], "devices": devices}}


def _identity(item: Manifest) -> dict[str, Any]:
    kept = ("name", "namespace", "uid", "resourceVersion")
    metadata = {key: item["metadata"][key] for key in kept if key in item["metadata"]}
    return {"apiVersion": item.get("apiVersion"), "kind": item.get("kind"), "metadata": metadata}


@dataclass(frozen=True)
class _Claimed:
    """What one claim, or all of a pod's, is to each pod of these uids. `problem`: an amount that cannot be read."""

    pods: tuple[str, ...]
    held: tuple[tuple[CardKey, int], ...] = ()
    problem: str = ""


def _by_pod(claims: Iterable[_Claimed]) -> dict[str, _Claimed]:
    """`{uid of the pod: all its claims together}`."""
    found: dict[str, _Claimed] = {}
    for one in claims:
        for pod in one.pods:
            so_far = found.get(pod, _Claimed((pod,)))
            found[pod] = _Claimed((pod,), so_far.held + one.held, so_far.problem or one.problem)
    return found


class ClaimBudgets:
    """Every claim's memory, and which card it is of. Without a driver there are none, and nothing is asked."""

    def __init__(self, cluster: Cluster, driver: str) -> None:
        self._cluster = cluster
        self._driver = driver
        self._claims: WatchCache[_Claimed] = WatchCache()
        self._slices: WatchCache[Manifest] = WatchCache()
        self._lock = threading.Lock()
        # Made from both when it is asked for: a pass asks for every pod, and claims change seldom.
        self._made: tuple[tuple[int, int], dict[str, _Claimed], dict[CardKey, str]] | None = None
        self.failure: Exception | None = None

    def follow(self, stop: Callable[[], bool]) -> None:
        """Keeps the claims until `stop()`; whatever ends it is left in `failure`."""
        self._follow(CLAIMS, trimmed_claim, self._claims, self._read, stop)

    def follow_slices(self, stop: Callable[[], bool]) -> None:
        """Keeps the cards until `stop()`, like `follow`."""
        self._follow(SLICES, trimmed_slice, self._slices, trimmed_slice, stop)

    def refresh(self) -> None:
        """All claims as the API has them at this moment.

        Raises:
            ClusterError: the API refused or did not answer.
        """
        if self._driver:
            self._list(CLAIMS, self._claims, self._read)
            self._list(SLICES, self._slices, trimmed_slice)

    def with_budget(self, facts: PodFacts) -> PodFacts:
        """`facts` with what the pod's claims hold, where it declares no number itself.

        The cards stay unknown where one of them is in no slice: then the sum alone counts.
        """
        if not self._driver or facts.budget_mib is not None or facts.budget_problem:
            return facts
        by_pod, uuids = self._by_now()
        claimed = by_pod.get(facts.uid)
        if claimed is None:
            return facts
        if claimed.problem:
            return replace(facts, budget_problem=claimed.problem)
        cards = tuple(CardBudget(uuids[key], mib) for key, mib in claimed.held if key in uuids)
        known = cards if len(cards) == len(claimed.held) else None
        return replace(facts, budget_mib=sum(mib for _, mib in claimed.held), cards=known)

    def _by_now(self) -> tuple[dict[str, _Claimed], dict[CardKey, str]]:
        with self._lock:
            changes = (self._claims.changes_count, self._slices.changes_count)
            if self._made is None or self._made[0] != changes:
                uuids = device_uuids(self._slices.values(), self._driver)
                self._made = (changes, _by_pod(self._claims.values()), uuids)
            return self._made[1:]

    def _follow(
        self,
        kind: ObjectRef,
        trim: Callable[[Manifest], dict[str, Any]],
        cache: WatchCache[T],
        read: Callable[[Manifest], T],
        stop: Callable[[], bool],
    ) -> None:
        if not self._driver:
            return
        try:
            for event in self._cluster.watch(kind, trim=trim, stop=stop):
                if event.type == "DELETED":
                    cache.drop(event.object)
                else:
                    cache.put(event.object, read(event.object))
        except Exception as error:  # noqa: BLE001 - raised by the loop: a watchdog with one eye shut would stay healthy
            self.failure = error

    def _list(self, kind: ObjectRef, cache: WatchCache[T], read: Callable[[Manifest], T]) -> None:
        before = cache.known()
        cache.learn(before, [(item, read(item)) for item in self._cluster.list(kind)])

    def _read(self, claim: Mapping[str, Any]) -> _Claimed:
        pods = claim_pod_uids(claim)
        try:
            held = held_memory([claim], self._driver)
        except QuantityError as error:
            return _Claimed(pods, problem=str(error))
        # Without a card of ours a claim is no budget: a network card's, or one that is not allocated yet.
        return _Claimed(pods if held else (), tuple((one.key, one.memory_mib) for one in held))
