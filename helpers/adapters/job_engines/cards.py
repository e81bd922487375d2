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
from helpers.domain.jobs.room import PoolRooms, Room, Seats
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

    def rooms(self, nodes: Sequence[Object], jobs: Sequence[Object], pods: Sequence[Object]) -> dict[Pool, PoolRooms]:
        """`{pool: its nodes, and who was let go and is on none yet}`, by the jobs' own objects."""
        held: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        label = names.job_label(self._label_prefix)
        for pod in pods:
            if pod["spec"]["nodeName"] and pod["status"].get("phase") not in ENDED:
                job_id = pod["metadata"].get("labels", {}).get(label, "")
                for resource in pod["spec"]["limits"]:
                    held[pod["spec"]["nodeName"], resource][job_id] += amount_of(pod["spec"]["limits"], resource)
        found: dict[Pool, list[Room]] = defaultdict(list)
        for place, mine in self._divided(self._places, nodes):
            rooms = found[place.pool]
            for node in mine:
                name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
                is_spot = labels.get(names.CAPACITY_TYPE_LABEL) == SPOT
                rooms.append(Room(self._allocatable(place, node), is_spot, held[name, self.counted(place)], name))
            if growth_count := self._growth_count(place, mine):
                spot = None if place.offers_spot else False
                rooms.append(Room(place.machine_amount, spot, count=growth_count))
        unplaced = self._unplaced(jobs, pods)
        return {pool: PoolRooms(rooms, unplaced[pool.name]) for pool, rooms in found.items()}

    def counted(self, place: Place) -> str:
        """The resource whose amount is what jobs wait for: MiB on shared cards, else the card itself."""
        return self._resource if place.kind == "shared" else place.resource

    def _unplaced(self, jobs: Iterable[Object], pods: Iterable[Object]) -> dict[str, dict[str, Seats]]:
        """`{pool's name: {job_id: its pods}}` of Jobs that were let go, as far as they are not bound to a node yet."""
        bound = Counter(
            pod["metadata"].get("labels", {}).get(CONTROLLER_UID)
            for pod in pods
            if pod["spec"]["nodeName"] or pod["status"].get("phase") in ENDED
        )
        counted = {place.pool.name: self.counted(place) for place in reversed(self._places)}
        found: dict[str, dict[str, Seats]] = defaultdict(dict)
        for job in jobs:
            said = job["metadata"].get("annotations", {})
            pool = said.get(self._key("pool"))
            if job["spec"]["suspend"] or is_over(job) or pool not in counted:
                continue
            left_count = job["spec"]["parallelism"] - bound[job["metadata"]["uid"]]
            amount = amount_of(limits_of(job), counted[pool])  # 0: its nodes have another resource by now
            if left_count > 0 and amount > 0:
                avoids = frozenset(said.get(self._key("avoids"), "").split(",")) - {""}
                seats = Seats(amount, left_count, said.get(self._key("capacity")) == SPOT, avoids)
                found[pool][job["metadata"]["name"]] = seats
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
