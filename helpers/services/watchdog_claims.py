"""Budgets that are claims: what each pod's claims hold, by a watch, and afresh on request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from helpers.domain.dra.offers import claim_pods, held_memory
from helpers.domain.errors import GpumemError, QuantityError
from helpers.domain.watchdog.facts import PodFacts
from helpers.ports.cluster import Cluster, Manifest
from helpers.services.claims import CLAIMS


def trimmed_claim(claim: Manifest) -> dict[str, Any]:
    """The part of a ResourceClaim that is read here."""
    metadata, status = claim["metadata"], claim.get("status") or {}
    return {
        "apiVersion": claim.get("apiVersion"),
        "kind": claim.get("kind"),
        "metadata": {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion") if key in metadata},
        "status": {key: status[key] for key in ("allocation", "reservedFor") if key in status},
    }


@dataclass(frozen=True)
class _Claimed:
    """What one claim is to each pod that uses it. `problem`: its amount is there and cannot be read."""

    pods: tuple[tuple[str, str], ...]
    memory_mib: int = 0
    problem: str = ""


def _by_pod(claims: Iterable[_Claimed]) -> dict[tuple[str, str], _Claimed]:
    """`{(namespace, pod): all its claims together}`."""
    found: dict[tuple[str, str], _Claimed] = {}
    for one in claims:
        for pod in one.pods:
            so_far = found.get(pod, _Claimed((pod,)))
            together_mib = so_far.memory_mib + one.memory_mib
            found[pod] = _Claimed((pod,), together_mib, so_far.problem or one.problem)
    return found


class ClaimBudgets:
    """Every claim's memory, by uid of the claim. Without a driver there are none, and nothing is asked."""

    def __init__(self, cluster: Cluster, driver: str) -> None:
        self._cluster = cluster
        self._driver = driver
        self._lock = threading.Lock()
        self._held: dict[str, _Claimed] = {}
        # Made from the claims when it is asked for: a pass asks for every pod, and claims change seldom.
        self._by_pod: dict[tuple[str, str], _Claimed] | None = None
        self.failure: GpumemError | None = None

    def follow(self, stop: Callable[[], bool]) -> None:
        """Keeps the cache until `stop()`; what no retry mends is left in `failure`."""
        if not self._driver:
            return
        try:
            for event in self._cluster.watch(CLAIMS, trim=trimmed_claim, stop=stop):
                self._put(event.object, gone=event.type == "DELETED")
        except GpumemError as error:
            self.failure = error

    def refresh(self) -> None:
        """All claims as the API has them at this moment.

        Raises:
            ClusterError: the API refused or did not answer.
        """
        if self._driver:
            held = {str(claim["metadata"]["uid"]): self._read(claim) for claim in self._cluster.list(CLAIMS)}
            with self._lock:
                self._held, self._by_pod = held, None

    def with_budget(self, facts: PodFacts) -> PodFacts:
        """`facts` with what the pod's claims hold, where it declares no number itself."""
        if not self._driver or facts.budget_mib is not None or facts.budget_problem:
            return facts
        with self._lock:
            if self._by_pod is None:
                self._by_pod = _by_pod(self._held.values())
            claimed = self._by_pod.get((facts.namespace, facts.name))
        if claimed is None:
            return facts
        if claimed.problem:
            return replace(facts, budget_problem=claimed.problem)
        return replace(facts, budget_mib=claimed.memory_mib)

    def _put(self, claim: Mapping[str, Any], *, gone: bool) -> None:
        uid = str(claim["metadata"]["uid"])
        with self._lock:
            self._by_pod = None
            if gone:
                self._held.pop(uid, None)
            else:
                self._held[uid] = self._read(claim)

    def _read(self, claim: Mapping[str, Any]) -> _Claimed:
        try:
            held = held_memory([claim], self._driver)
        except QuantityError as error:
            return _Claimed(_users(claim), problem=str(error))
        # Without a card of ours a claim is no budget: a network card's, or one that is not allocated yet.
        return _Claimed(_users(claim) if held else (), sum(one.memory_mib for one in held))


def _users(claim: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(claim["metadata"]["namespace"]), name) for name in claim_pods(claim))
