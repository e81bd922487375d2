"""Rules about nodes: their number, their shares, their taints, and the device plugin's configuration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from helpers.domain import names
from helpers.domain.doctor.commands import gpumem, kubectl
from helpers.domain.doctor.facts import DoctorFacts, NodeSeen, ObjectName, PodSeen
from helpers.domain.doctor.finding import Finding, Severity
from helpers.domain.estate.nodes import Node

_WEAKER = ("PreferNoSchedule", "NoSchedule", "NoExecute")


def server_version(facts: DoctorFacts) -> Iterator[Finding]:
    """What depends on the server is resolved from the estate, so the two must agree."""
    wanted = facts.estate.kubernetes.version
    if facts.server_version != wanted:
        yield Finding(
            "kubernetes-version",
            Severity.ERROR,
            "API server",
            f"it is {facts.server_version}, and the estate is rendered for {wanted}",
            f'set kubernetes.version: "{facts.server_version}" in {facts.estate_file}, then plan and apply again',
        )


def node_there(facts: DoctorFacts) -> Iterator[Finding]:
    """Entries with fewer Ready machines than they always have."""
    for entry in facts.estate.nodes:
        there = facts.nodes_of(entry)
        if len(there) < entry.min_nodes:
            found = entry.node_name or names.label_selector(entry.selector or {})
            yield Finding(
                "node-absent",
                Severity.ERROR,
                f"nodes[{entry.name}]",
                f"{len(there)} node(s) match {found}; min_nodes is {entry.min_nodes}",
                "bring the machine back, or put the selector's labels on it again",
            )
        for node in there:
            if not node.ready:
                yield Finding(
                    "node-not-ready",
                    Severity.ERROR,
                    f"Node {node.name}",
                    "its kubelet does not report Ready; its tenants are moved or wait",
                    "look at the machine: docs/runbooks/recovery-node-reregister.md",
                )


def capacity(facts: DoctorFacts) -> Iterator[Finding]:
    """Nodes without their number, or with another one."""
    resource = facts.estate.resource
    for entry in facts.estate.number_nodes():
        for node in facts.nodes_of(entry):
            shown_mib = node.facts.allocatable_mib
            if shown_mib == entry.advertised_mib:
                continue
            missing = shown_mib is None
            shown = "not there" if missing else f"{shown_mib}"
            yield Finding(
                "capacity-missing" if missing else "capacity-stale",
                Severity.ERROR,
                f"Node {node.name}",
                f"allocatable {resource} is {shown}; the estate advertises {entry.advertised_mib}",
                "write the number again; the capacity watch should have done it",
                gpumem(facts, "capacity", "assert"),
            )


def shares(facts: DoctorFacts) -> Iterator[Finding]:
    """Nodes that offer another number of shares than the estate says, where they offer any."""
    for entry in facts.estate.nodes:
        resource, wanted = entry.share_resource(), entry.shares_count()
        for node in facts.nodes_of(entry):
            shown = node.facts.shares.get(resource)
            if shown not in (None, wanted):
                yield Finding(
                    "shares-differ",
                    Severity.ERROR,
                    f"Node {node.name}",
                    f"allocatable {resource} is {shown}; the estate has {entry.card_count} card(s) in "
                    f"{entry.replicas_per_card} shares, {wanted}",
                    "the device plugin runs with another configuration: restart it there "
                    "(docs/runbooks/recovery-device-plugin.md), or correct gpus and sharing in the estate",
                )


def overcommitted(facts: DoctorFacts) -> Iterator[Finding]:
    """Nodes whose pods declare more than they show: the next kubelet restart fails some."""
    for entry in facts.estate.nodes:
        for node in facts.nodes_of(entry):
            held_mib, shown_mib = facts.held_mib(node.name), node.facts.allocatable_mib
            if shown_mib is None or held_mib <= shown_mib:
                continue
            pods = [pod for pod in facts.pods if pod.node == node.name and pod.holds and pod.budget_mib]
            yield Finding(
                "node-overcommitted",
                Severity.ERROR,
                f"Node {node.name}",
                f"its pods declare {held_mib} MiB and it shows {shown_mib}: {_pods(pods)}; the next restart of "
                f"the kubelet fails some with OutOf{facts.estate.resource}",
                *_free(facts, entry, held_mib - shown_mib, pods),
            )


def _free(facts: DoctorFacts, entry: Node, least_mib: int, pods: list[PodSeen]) -> tuple[str, str]:
    strangers = [pod for pod in pods if not any(pod.belongs_to(tenant) for tenant in facts.estate.tenants)]
    if sum(pod.budget_mib for pod in strangers) >= least_mib:
        one = min((pod for pod in strangers if pod.budget_mib >= least_mib), default=None, key=lambda p: p.budget_mib)
        if one is not None:
            words = f"{one} is no tenant of {entry.name}: declare it, or end it"
            return words, kubectl("delete", "pod", one.name, namespace=one.namespace)
    return "release tenants until the rest fits: gpumem release TENANT", ""


def _pods(pods: list[PodSeen]) -> str:
    return ", ".join(f"{pod} {pod.budget_mib}" for pod in sorted(pods, key=lambda pod: (-pod.budget_mib, str(pod))))


def taints(facts: DoctorFacts) -> Iterator[Finding]:
    """A taint is found by key and effect, so an older one with another effect stays beside the new one."""
    for entry in facts.estate.nodes:
        for node in facts.nodes_of(entry):
            yield from _twice(node)


def _twice(node: NodeSeen) -> Iterator[Finding]:
    by_key: dict[str, list[str]] = defaultdict(list)
    for taint in node.taints:
        # Kubernetes sets its own pairs, one for those who come and one for those who are there.
        if not taint.key.startswith("node.kubernetes.io/"):
            by_key[taint.key].append(taint.effect)
    for key, effects in sorted(by_key.items()):
        if len(effects) < 2:
            continue
        weaker = sorted(effects, key=_WEAKER.index)[:-1]
        yield Finding(
            "taint-twice",
            Severity.WARNING,
            f"Node {node.name}",
            f"{key} stands there with {' and '.join(sorted(effects))}; changing an effect adds a taint, "
            "it replaces none",
            "remove the effect that is not meant; this removes the weaker",
            kubectl("taint", "node", node.name, *(f"{key}:{effect}-" for effect in weaker)),
        )


def plugin_config_selected(facts: DoctorFacts) -> Iterator[Finding]:
    """With the operator a configuration does nothing until a node's label names it."""
    if facts.estate.device_plugin.managed_by != "gpu-operator":
        return
    config = ObjectName("ConfigMap", facts.estate.namespace, facts.estate.device_plugin.config_map)
    label = names.DEVICE_PLUGIN_CONFIG_LABEL
    for entry in facts.estate.nodes:
        if entry.sharing is None:
            continue
        for node in facts.nodes_of(entry):
            shown = node.facts.labels.get(label)
            # Without a label the operator's default is used, which its shares tell apart.
            by_default = shown is None and node.facts.shares.get(entry.share_resource()) == entry.shares_count()
            if shown == entry.name or by_default:
                continue
            has = f"is {shown!r}" if shown is not None else "is absent"
            yield Finding(
                "device-plugin-config-unselected",
                Severity.ERROR,
                f"Node {node.name}",
                f"label {label} {has}, so key {entry.name} of {config} is not used there",
                "label the node",
                kubectl("label", "node", node.name, f"{label}={entry.name}", "--overwrite"),
            )
