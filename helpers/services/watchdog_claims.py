"""Budgets that are claims: what each pod's claims hold, by a watch, and afresh on request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from helpers.domain.dra.offers import HeldMemory, held_memory
from helpers.domain.errors import GpumemError
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


class ClaimBudgets:
    """Every claim's memory, by uid of the claim. Without a driver there are none, and nothing is asked."""

    def __init__(self, cluster: Cluster, driver: str) -> None:
        self._cluster = cluster
        self._driver = driver
        self._lock = threading.Lock()
        self._held: dict[str, tuple[HeldMemory, ...]] = {}
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
                self._held = held

    def with_budget(self, facts: PodFacts) -> PodFacts:
        """`facts` with what the pod's claims hold, where it declares no number itself."""
        if not self._driver or facts.budget_mib is not None or facts.budget_problem:
            return facts
        with self._lock:
            known = list(self._held.values())
        mine = [one for held in known for one in held if self._is_of(one, facts)]
        return replace(facts, budget_mib=sum(one.memory_mib for one in mine)) if mine else facts

    @staticmethod
    def _is_of(held: HeldMemory, facts: PodFacts) -> bool:
        return held.namespace == facts.namespace and facts.name in held.pods

    def _put(self, claim: Mapping[str, Any], *, gone: bool) -> None:
        uid = str(claim["metadata"]["uid"])
        with self._lock:
            if gone:
                self._held.pop(uid, None)
            else:
                self._held[uid] = self._read(claim)

    def _read(self, claim: Mapping[str, Any]) -> tuple[HeldMemory, ...]:
        return held_memory([claim], self._driver)
