"""The one document that both engines' rules are made from: the webhook mounts it, the policies are rendered from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from helpers.domain.admission.tenant_rules import TenantRule, tenant_rules
from helpers.domain.estate.admission import FIRST_MINOR_WITH_POLICIES, INDEX, Admission, DirectorySet
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import WHOLE_GPU_RESOURCE
from helpers.domain.memory import PositiveMib

GPU_SYSTEM_NAMESPACE = "gpu-system"
# Nothing of ours may ever stand between the cluster and its own pods.
KUBERNETES_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease")

Engine = Literal["policy", "webhook"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Device(_Settings):
    """One path that a directory set can mount. `index`: the card's, empty for what belongs to no card."""

    path: str
    volume: str
    directory_set: str
    index: str = ""


def card_indices(count: int) -> list[str]:
    """`0`, `1`, … of so many cards, as the annotation spells them."""
    return [str(index) for index in range(count)]


class NodeCards(_Settings):
    """How many cards a node has that a pod names by these labels in its nodeSelector."""

    selector: dict[str, str]
    cards_count: int

    def indices(self) -> list[str]:
        """`0`, `1`, … of its cards."""
        return card_indices(self.cards_count)


class AdmissionSettings(_Settings):
    """What admission goes by. `devices` are in the order in which they are mounted.

    `gpu_resources` are the names by which pods ask for a GPU, `shared_resources` those of them that are
    turns of a time-sliced card. `default_budgets` is `{namespace: MiB}`. `claims`: a claim declares memory, too.
    """

    resource: str
    label_prefix: str
    annotation: str
    runtime_class: str
    devices: tuple[Device, ...]
    runtime_class_sets: tuple[str, ...]
    nodes: tuple[NodeCards, ...]
    gpu_resources: tuple[str, ...]
    shared_resources: tuple[str, ...]
    largest_card_mib: PositiveMib
    required_budget: Literal["off", "warn", "default", "deny"]
    default_budgets: dict[str, PositiveMib]
    excluded_namespaces: tuple[str, ...]
    tenants: tuple[TenantRule, ...] = ()
    claims: bool = False

    def to_json(self) -> str:
        """The document as it is mounted: the same bytes for the same estate."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def set_names(self) -> list[str]:
        """Names of the directory sets, in the estate's order."""
        return list(dict.fromkeys(device.directory_set for device in self.devices))

    def card_set_names(self) -> list[str]:
        """Names of the sets that have a device for each card."""
        return list(dict.fromkeys(device.directory_set for device in self.devices if device.index))

    def other_set_names(self) -> list[str]:
        """Names of the sets that have nothing to do with a GPU: no card's device, no runtime class (a TPU's)."""
        return [name for name in self.set_names() if name not in (*self.card_set_names(), *self.runtime_class_sets)]

    def all_indices(self) -> list[str]:
        """Indices of the cards of the node that has most."""
        return card_indices(max(node.cards_count for node in self.nodes))


def admission_settings(estate: Estate, admission: Admission) -> AdmissionSettings:
    """The document for `estate`, whose block `admission` is."""
    most_cards_count = max(node.card_count for node in estate.nodes)
    resources = {WHOLE_GPU_RESOURCE} | {name for node in estate.nodes for name in node.gpu_resources()}
    shared = {name for node in estate.nodes for name in node.shared_resources()}
    return AdmissionSettings(
        resource=estate.resource,
        label_prefix=estate.label_prefix,
        annotation=admission.annotation,
        runtime_class=estate.runtime_class.name,
        devices=tuple(d for one in admission.directory_sets for d in devices_of(one, most_cards_count)),
        runtime_class_sets=tuple(one.name for one in admission.directory_sets if one.runtime_class),
        nodes=tuple(NodeCards(selector=node.node_selector(), cards_count=node.card_count) for node in estate.nodes),
        gpu_resources=tuple(sorted(resources)),
        shared_resources=tuple(sorted(shared)),
        largest_card_mib=max(node.largest_card_mib for node in estate.nodes),
        required_budget=admission.required_budget,
        default_budgets={item.namespace: item.budget_mib for item in admission.default_budgets},
        excluded_namespaces=excluded_namespaces(estate, admission),
        tenants=tenant_rules(estate),
        claims=bool(estate.claim_nodes()),
    )


def excluded_namespaces(estate: Estate, admission: Admission) -> tuple[str, ...]:
    """Namespaces whose pods are never looked at, sorted."""
    ours = (GPU_SYSTEM_NAMESPACE, estate.namespace)
    return tuple(sorted({*KUBERNETES_NAMESPACES, *ours, *admission.excluded_namespaces}))


def resolved_engine(estate: Estate, admission: Admission) -> Engine:
    """Which engine `auto` comes to on the estate's Kubernetes."""
    if admission.engine != "auto":
        return admission.engine
    return "policy" if estate.minor_version >= FIRST_MINOR_WITH_POLICIES else "webhook"


def volume_name(path: str) -> str:
    """The volume that mounts `path`: `nvidia0` for /dev/nvidia0, `bus-usb` for /dev/bus/usb."""
    return path.removeprefix("/dev/").replace("/", "-").replace("_", "-").replace(".", "-").lower()


def devices_of(one: DirectorySet, cards_count: int) -> Iterator[Device]:
    """Everything that `one` can mount on a node with so many cards: the cards first, then what belongs to none."""
    if one.gpu_path is not None:
        for index in card_indices(cards_count):
            path = one.gpu_path.replace(INDEX, index)
            yield Device(path=path, volume=volume_name(path), directory_set=one.name, index=index)
    for path in one.paths:
        yield Device(path=path, volume=volume_name(path), directory_set=one.name)
