"""What the cluster's nodes have for jobs: in all, and on each node beside what was let go."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from helpers.adapters.job_engines.documents import is_tolerated
from helpers.adapters.job_engines.observing import amount_of, limits_of
from helpers.domain import names
from helpers.domain.jobs.gpus import CardKind, Pool
from helpers.domain.jobs.places import ON_DEMAND, SPOT, Place
from helpers.domain.jobs.room import Room, Seats
from helpers.domain.jobs.settings import ManagerSettings
from helpers.domain.pod_phase import ENDED

Object = Mapping[str, Any]
CONTROLLER_UID = "batch.kubernetes.io/controller-uid"


def trimmed_node(node: Object) -> dict[str, Any]:
    """The parts of a node that are read."""
    ready = [one for one in node.get("status", {}).get("conditions") or () if one["type"] == "Ready"]
    return {
        "metadata": {key: node["metadata"].get(key) for key in ("name", "uid", "resourceVersion", "labels")},
        "spec": {key: node.get("spec", {}).get(key) for key in ("unschedulable", "taints")},
        "status": {"allocatable": node.get("status", {}).get("allocatable", {}), "conditions": ready},
    }


class Cards:
    """Nodes as jobs see them."""

    def __init__(self, settings: ManagerSettings) -> None:
        self._places = settings.places
        self._resource = settings.resource
        self._label_prefix = settings.label_prefix

    def capacity(self, nodes: Sequence[Object]) -> dict[Pool, int]:
        """`{pool: cards, instances or MiB in all}`, with the machines that an autoscaler would make."""
        found: dict[Pool, int] = defaultdict(int)
        for place, mine in self._divided(self._places, nodes):
            found[place.pool] += sum(self._allocatable(place, node) for node in mine)
            found[place.pool] += self._growth_count(place, mine) * place.machine_amount
        return dict(found)

    def machines(self, nodes: Sequence[Object]) -> dict[CardKind, int]:
        """Cards of the nodes that are there: they are paid for, also while they take no pod."""
        found: dict[CardKind, int] = defaultdict(int)
        for node in nodes:
            labels = node["metadata"].get("labels") or {}
            place = next((one for one in self._places if one.has(labels)), None)
            if place is not None:
                kind = SPOT if labels.get(names.CAPACITY_TYPE_LABEL) == SPOT else ON_DEMAND
                found[place.pool.price_key, kind] += place.cards_count
        return dict(found)

    def rooms(self, pool: Pool, nodes: Sequence[Object], pods: Iterable[Object]) -> list[Room]:
        """What is free on each node of a pool, beside the jobs' own pods that are bound there."""
        used: Counter[tuple[str, str]] = Counter()
        for pod in pods:
            if pod["spec"]["nodeName"] and pod["status"].get("phase") not in ENDED:
                for resource in pod["spec"]["limits"]:
                    used[pod["spec"]["nodeName"], resource] += amount_of(pod["spec"]["limits"], resource)
        found = []
        for place, mine in self._divided([one for one in self._places if one.pool == pool], nodes):
            for node in mine:
                name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
                free = self._allocatable(place, node) - used[name, self.counted(place)]
                found.append(Room(max(0, free), labels.get(names.CAPACITY_TYPE_LABEL) == SPOT))
            if growth_count := self._growth_count(place, mine):
                found.append(Room(place.machine_amount, None if place.offers_spot else False, growth_count))
        return found

    def counted(self, place: Place) -> str:
        """The resource whose amount is what jobs wait for: MiB on shared cards, else the card itself."""
        return self._resource if place.kind == "shared" else place.resource

    def unplaced(self, pool: Pool, jobs: Iterable[Object], pods: Iterable[Object]) -> list[Seats]:
        """The pods of Jobs of that pool that were let go and are not bound to a node yet."""
        bound = Counter(
            pod["metadata"].get("labels", {}).get(CONTROLLER_UID)
            for pod in pods
            if pod["spec"]["nodeName"] or pod["status"].get("phase") in ENDED
        )
        counted = next((self.counted(place) for place in self._places if place.pool == pool), "")
        found = []
        for job in jobs:
            said = job["metadata"].get("annotations", {})
            if job["spec"]["suspend"] or is_over(job) or said.get(self._key("pool")) != pool.name:
                continue
            left_count = job["spec"]["parallelism"] - bound[job["metadata"]["uid"]]
            if left_count > 0:
                amount = amount_of(limits_of(job), counted)
                found.append(Seats(amount, left_count, said.get(self._key("capacity")) == SPOT))
        return found

    def _key(self, what: str) -> str:
        return names.job_annotation(self._label_prefix, what)

    def _allocatable(self, place: Place, node: Object) -> int:
        return amount_of(node["status"]["allocatable"], self.counted(place))

    def _growth_count(self, place: Place, mine: Sequence[Object]) -> int:
        return max(0, (place.most_machines_count or 0) - len(mine))

    def _divided(self, places: Sequence[Place], nodes: Sequence[Object]) -> Iterator[tuple[Place, Sequence[Object]]]:
        """Each place with the nodes that take pods now; a node that two places of a pool find is the first one's."""
        counted: set[tuple[Pool, str]] = set()
        for place in places:
            mine = [
                node
                for node in nodes
                if _takes_pods(node, place)
                and place.has(node["metadata"].get("labels") or {})
                and (place.pool, node["metadata"]["name"]) not in counted
            ]
            counted |= {(place.pool, node["metadata"]["name"]) for node in mine}
            yield place, mine


def _takes_pods(node: Object, place: Place) -> bool:
    if not all(is_tolerated(taint, place) for taint in node["spec"]["taints"] or ()):
        return False
    ready = any(one.get("status") == "True" for one in node["status"]["conditions"])
    return ready and not node["spec"]["unschedulable"]


def is_over(job: Object) -> bool:
    """Whether nothing of a Job will run any more."""
    conditions = job["status"].get("conditions") or ()
    return any(one["type"] in ("Complete", "Failed") and one.get("status") == "True" for one in conditions)
