"""What the `talos` block and the rest of the estate must agree on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from helpers.domain.errors import Problem
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.estate.suggestion import did_you_mean
from helpers.domain.estate.talos import Talos, TalosMachine

# What the admission plugin NodeRestriction lets a kubelet write on its own node under Kubernetes's prefixes
# (kubelet/pkg/apis/well_known_labels.go). A worker's labels go that way; a control plane machine's do not.
_KUBELETS_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
    }
)
_KUBELETS_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")


def talos_problems(estate: Estate) -> Iterator[Problem]:
    """All problems; none where there is no `talos` block."""
    talos = estate.talos
    if talos is None:
        return
    yield from _unique(talos)
    yield from _version(estate, talos)
    yield from _machines(estate, talos)
    yield from _selectors(estate, talos)
    yield from _enough(estate, talos)
    yield from _extensions(talos)


def _unique(talos: Talos) -> Iterator[Problem]:
    yield from _twice("hostname", [machine.hostname for machine in talos.machines])
    yield from _twice("address", [machine.address for machine in talos.machines])


def _twice(key: str, values: Sequence[str]) -> Iterator[Problem]:
    for index, value in enumerate(values):
        if value in values[:index]:
            rule = f"{key} is unique; talos.machines[{values.index(value)}] has it too"
            yield Problem(f"talos.machines[{index}].{key}", value, rule, "remove or correct one of the two")


def _version(estate: Estate, talos: Talos) -> Iterator[Problem]:
    if talos.kubernetes_version.removeprefix("v").rpartition(".")[0] != estate.kubernetes.version:
        rule = f"kubernetes.version says {estate.kubernetes.version}, and the estate is rendered for that"
        repair = f"write v{estate.kubernetes.version}.<patch>, or change kubernetes.version"
        yield Problem("talos.kubernetes_version", talos.kubernetes_version, rule, repair)


def _machines(estate: Estate, talos: Talos) -> Iterator[Problem]:
    entries = {node.name: node for node in estate.nodes}
    for index, machine in enumerate(talos.machines):
        path = f"talos.machines[{index}]"
        node = entries.get(machine.node) if machine.node is not None else None
        if machine.node is not None and node is None:
            rule = "node is the name of an entry under nodes"
            yield Problem(f"{path}.node", machine.node, rule, did_you_mean(machine.node, entries))
        if node is not None:
            yield from _agrees(path, machine, node)
        if not machine.control_plane:
            yield from _may_be_set(f"{path}.labels", machine.labels)


def _agrees(path: str, machine: TalosMachine, node: Node) -> Iterator[Problem]:
    if node.node_name is not None and node.node_name != machine.hostname:
        rule = f"the entry {node.name} is the machine with node_name {node.node_name}"
        yield Problem(f"{path}.hostname", machine.hostname, rule, f"write hostname: {node.node_name}")
    for key, value in machine.labels.items():
        wanted = (node.selector or {}).get(key)
        if wanted is not None and wanted != value:
            rule = f"the entry {node.name} finds its machines by {key}: {wanted}"
            yield Problem(f"{path}.labels.{key}", value, rule, "remove the label; the entry's patch sets it")


def _may_be_set(path: str, labels: dict[str, str]) -> Iterator[Problem]:
    for key, value in labels.items():
        if _is_kubernetes(key) and not _is_kubelets(key):
            yield Problem(
                f"{path}.{key}",
                value,
                "a Talos worker sets its labels as its own kubelet, and NodeRestriction refuses it this one",
                "use a label with a prefix of your own, or none",
            )


def _is_kubernetes(key: str) -> bool:
    prefix = key.rpartition("/")[0]
    return any(prefix == one or prefix.endswith(f".{one}") for one in ("kubernetes.io", "k8s.io"))


def _is_kubelets(key: str) -> bool:
    prefix = key.rpartition("/")[0]
    own = any(prefix == one or prefix.endswith(f".{one}") for one in _KUBELETS_PREFIXES)
    return own or key in _KUBELETS_LABELS


def _selectors(estate: Estate, talos: Talos) -> Iterator[Problem]:
    workers = {machine.node for machine in talos.machines if not machine.control_plane}
    for index, node in enumerate(estate.nodes):
        if node.name in workers:
            yield from _may_be_set(f"nodes[{index}].selector", node.selector or {})


def _enough(estate: Estate, talos: Talos) -> Iterator[Problem]:
    """The gate waits for `min_nodes` machines of each entry; one that nothing declares never comes."""
    for index, node in enumerate(estate.nodes):
        count = sum(machine.node == node.name for machine in talos.machines)
        if 0 < count < node.min_nodes:
            rule = f"talos.machines has {count} of {node.name}, and the gate would wait for {node.min_nodes}"
            yield Problem(f"nodes[{index}].min_nodes", str(node.min_nodes), rule, "add machines, or lower min_nodes")


def _extensions(talos: Talos) -> Iterator[Problem]:
    for index, name in enumerate(talos.extensions):
        if talos.gpu_extensions().count(name) > 1:
            rule = "the image has it already, by kernel_modules and driver_branch or by another line here"
            yield Problem(f"talos.extensions[{index}]", name, rule, "remove it")
