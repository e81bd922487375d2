"""Budgets that are claims: what each pod's claims hold, by a watch, and afresh on request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
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


def by_pod(held: Iterable[HeldMemory]) -> dict[tuple[str, str], int]:
    """`{(namespace, pod): MiB}` of all claims that the pod uses."""
    budgets_mib: dict[tuple[str, str], int] = {}
    for one in held:
        for pod in one.pods:
            budgets_mib[one.namespace, pod] = budgets_mib.get((one.namespace, pod), 0) + one.memory_mib
    return budgets_mib


class ClaimBudgets:
    """Every claim's memory, by uid of the claim. Without a driver there are none, and nothing is asked."""

    def __init__(self, cluster: Cluster, driver: str) -> None:
        self._cluster = cluster
        self._driver = driver
        self._lock = threading.Lock()
        self._held: dict[str, tuple[HeldMemory, ...]] = {}
        # Made from the claims when it is asked for: a pass asks for every pod, and claims change seldom.
        self._by_pod: dict[tuple[str, str], int] | None = None
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
                self._by_pod = by_pod(one for held in self._held.values() for one in held)
            budget_mib = self._by_pod.get((facts.namespace, facts.name))
        return facts if budget_mib is None else replace(facts, budget_mib=budget_mib)

    def _put(self, claim: Mapping[str, Any], *, gone: bool) -> None:
        uid = str(claim["metadata"]["uid"])
        with self._lock:
            self._by_pod = None
            if gone:
                self._held.pop(uid, None)
            else:
                self._held[uid] = self._read(claim)

    def _read(self, claim: Mapping[str, Any]) -> tuple[HeldMemory, ...]:
        return held_memory([claim], self._driver)
