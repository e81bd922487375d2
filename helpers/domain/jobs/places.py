"""Which of the estate's nodes have what a job asks for: how they are found, and what one of them has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from helpers.domain import names
from helpers.domain.errors import Problem
from helpers.domain.estate.manager import Manager
from helpers.domain.estate.mig import MigDevices
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import WHOLE_GPU_RESOURCE, Node
from helpers.domain.estate.suggestion import did_you_mean
from helpers.domain.jobs.gpus import GPU_TYPES, MIB_PER_GB, AskKind, Pool, card_sizes
from helpers.domain.jobs.problems import RequestInvalid
from helpers.domain.jobs.spec import JobSpec, read_spec

SPOT, ON_DEMAND = "spot", "on-demand"
# After a card's name these words make it another card.
_ANOTHER_CARD = (["TI"], ["SUPER"], ["LAPTOP"], ["MAX"], ["D"])


class Place(BaseModel):
    """One kind of node, and one thing of it that jobs ask for.

    Attributes:
        resource: The extended resource that a pod asks for: cards, MIG instances, or a share of a card.
        cards_count: How many cards one machine has, whole or divided.
        machine_amount: What one machine has: cards, instances or MiB.
        largest_amount: The most that one pod can have: of MiB, what one card has.
        physical_mib: What one of its cards has, as nvidia-smi prints it; 0: not known.
        most_machines_count: How many machines an autoscaler may make; None: what is there is all there is.
        offers_spot: Whether its machines may be spot capacity.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    gpu_type: str
    size_gb: int
    kind: AskKind = "whole"
    profile: str = ""
    resource: str = WHOLE_GPU_RESOURCE
    selector: dict[str, str]
    tolerations: tuple[dict[str, Any], ...] = ()
    machine_amount: int
    largest_amount: int
    cards_count: int = 0
    physical_mib: int = 0
    most_machines_count: int | None = None
    offers_spot: bool = False

    @property
    def pool(self) -> Pool:
        """What jobs that fit here wait for."""
        return Pool(self.gpu_type, self.size_gb, self.kind, self.profile)

    def has(self, labels: dict[str, str]) -> bool:
        """Whether a node with these labels is one of them."""
        return self.selector.items() <= labels.items()


def places_of(estate: Estate, manager: Manager) -> tuple[Place, ...]:
    """Every place of the estate.

    Nodes with several models of card, or a model that no job can ask for, have none; nor have nodes whose cards
    are claimed, because jobs ask the device plugin for theirs.
    """
    sizes = card_sizes(manager.prices)
    nodes = (node for node in estate.nodes if not estate.uses_claims(node))
    return tuple(place for node in nodes for place in _places(node, manager, sizes))


def card_of(model: str, physical_mib: int, sizes: Mapping[str, Sequence[int]]) -> tuple[str, int] | None:
    """Type and size in GB of a card that nvidia-smi calls `model`; None: no job can ask for such a card.

    A type may be several words of the name: `NVIDIA GeForce RTX 3090` is an RTX3090, and an `RTX 3090 Ti` is not.
    """
    words = [word for word in re.split(r"[^A-Za-z0-9]+", model.upper()) if word]
    runs = {
        "".join(words[begin:end])
        for begin in range(len(words))
        for end in range(begin + 1, len(words) + 1)
        if words[end : end + 1] not in _ANOTHER_CARD
    }
    found = max((name for name in sizes if name.upper() in runs), key=len, default=None)
    if found is None:
        return None
    return found, min(sizes[found], key=lambda size: abs(size * MIB_PER_GB - physical_mib))


def sized(spec: JobSpec, places: Sequence[Place], sizes: Mapping[str, Sequence[int]]) -> JobSpec:
    """`spec` with the size of its card, where it names none and the estate leaves no choice.

    Args:
        spec: What is asked for.
        places: The estate's nodes; empty: nothing is known of them.
        sizes: `{type: sizes in GB}` of the cards that there are to ask for.

    Raises:
        RequestInvalid: the estate has no such card, or several sizes of it.
    """
    asked = spec.gpu_requirements
    if asked.gpu_type not in sizes:
        known = sorted({one.gpu_type for one in places} or sizes)
        rule = f"a card that the estate has: {', '.join(known)}"
        raise _invalid("gpu_requirements.gpu_type", asked.gpu_type, rule, did_you_mean(asked.gpu_type, known))
    if asked.gpu_type in GPU_TYPES and (asked.gpu_memory_gb is not None or not places):
        return spec  # the request itself says which of its sizes that is
    there = _sizes_there(spec, places) if places else list(sizes[asked.gpu_type])
    if asked.gpu_memory_gb is not None:
        there = [size for size in there if size >= asked.gpu_memory_gb][:1]
    if not there:
        known = sorted({one.pool.name for one in places})
        rule = f"no node of the estate has such a card; the estate has {', '.join(known)}"
        wanted = asked.gpu_type if asked.gpu_memory_gb is None else f"{asked.gpu_type} with {asked.gpu_memory_gb} GB"
        raise _invalid("gpu_requirements", wanted, rule, "ask for one of these")
    if len(there) > 1:
        rule = f"the estate has {asked.gpu_type} with {' and with '.join(str(size) for size in there)} GB"
        raise _invalid("gpu_requirements.gpu_memory_gb", "", rule, f"say which, such as gpu_memory_gb: {there[0]}")
    document = spec.model_dump(mode="json", exclude_none=True)
    document["gpu_requirements"]["gpu_memory_gb"] = there[0]
    return read_spec(document)


def _sizes_there(spec: JobSpec, places: Sequence[Place]) -> list[int]:
    """Sizes of the type's cards on nodes that have it in the form that is asked for; else on any node."""
    asked = spec.gpu_requirements
    typed = [one for one in places if one.gpu_type == asked.gpu_type]
    fitting = [
        one
        for one in typed
        if (one.kind, one.profile) == (asked.kind, asked.mig_profile or "")
        and one.largest_amount >= (asked.gpu_memory_mib or asked.gpu_count)
    ]
    return sorted({one.size_gb for one in fitting or typed})


def _invalid(place: str, value: str, rule: str, repair: str) -> RequestInvalid:
    return RequestInvalid([Problem(place, value, rule, repair)])


def place_problems(spec: JobSpec, places: Sequence[Place]) -> Iterator[Problem]:
    """Why no node of the estate can ever run one worker of `spec`; nothing where some can, or `places` is empty."""
    demand, asked = spec.demand, spec.gpu_requirements
    if not places:
        return
    mine = [place for place in places if place.pool == demand.pool]
    if not mine:
        known = sorted({place.pool.name for place in places})
        rule = f"no node of the estate has it; the estate has {', '.join(known)}"
        yield Problem("gpu_requirements", demand.pool.name, rule, did_you_mean(demand.pool.name, known))
        return
    largest = max(place.largest_amount for place in mine)
    if demand.worker_amount > largest:
        is_shared = demand.pool.kind == "shared"
        place = "gpu_requirements.gpu_memory_mib" if is_shared else "gpu_requirements.gpu_count"
        value = str(asked.gpu_memory_mib if is_shared else asked.gpu_count)
        one = "card" if is_shared else "node"
        rule = f"the largest {one} with {demand.pool.name} has {largest}, and a worker runs on one {one}"
        yield Problem(place, value, rule, f"ask for {largest} or less, and for more workers")


def _places(node: Node, manager: Manager, sizes: Mapping[str, Sequence[int]]) -> Iterator[Place]:
    card = card_of(node.gpus[0].model, node.gpus[0].physical_mib, sizes) if len(node.gpus) == 1 else None
    if card is None:
        return
    pool = next(
        (one for one in manager.node_pools if one.name == (node.selector or {}).get(names.NODE_POOL_LABEL)), None
    )
    selector = node.node_selector()
    base: dict[str, Any] = {
        "name": node.name,
        "gpu_type": card[0],
        "size_gb": card[1],
        "cards_count": node.card_count,
        "physical_mib": node.gpus[0].physical_mib,
        "selector": selector,
        "tolerations": node.tolerations,
        "most_machines_count": pool.gpu_limit_count // node.card_count if pool else None,
        "offers_spot": (SPOT in pool.capacity_types) if pool else selector.get(names.CAPACITY_TYPE_LABEL) == SPOT,
    }
    config = (pool.mig_config if pool else None) or selector.get(names.MIG_CONFIG_LABEL)
    divided = manager.mig.configs.get(config, ()) if manager.mig and config else ()
    if any(one.mig_devices for one in divided):
        for profile, count in _instances(divided, node.card_count).items():
            resource = f"nvidia.com/mig-{profile.replace('+', '.')}"
            yield Place(
                **base, kind="mig", profile=profile, resource=resource, machine_amount=count, largest_amount=count
            )
    elif node.sharing is not None:
        yield Place(
            **base,
            kind="shared",
            resource=node.share_resource(),
            machine_amount=node.advertised_mib,
            largest_amount=node.largest_card_mib,
        )
    else:
        yield Place(**base, machine_amount=node.card_count, largest_amount=node.card_count)


def _instances(divided: Sequence[MigDevices], card_count: int) -> dict[str, int]:
    """`{profile: instances of one machine}`."""
    found: dict[str, int] = {}
    for one in divided:
        cards = card_count if one.devices == "all" else len(one.devices)
        for profile, count in one.mig_devices.items():
            found[profile] = found.get(profile, 0) + cards * count
    return found
