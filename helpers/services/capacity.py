"""Writes the advertised MiB on the nodes, and takes them off again.

Server-side apply on the node's status, as one field manager that owns two fields: the resource's
entries of `status.capacity` and `status.allocatable`. Capacity alone would do where a kubelet runs
(it copies capacity to allocatable at its next sync, about every ten seconds, and measured on a hollow
kubelet of 1.36 it puts a number in allocatable that differs back to capacity's); writing both makes
the node schedulable at once, holds on nodes without a kubelet, and a kubelet leaves the entry alone
as long as both agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from helpers.domain import names
from helpers.domain.capacity import (
    CapacityAction,
    CapacitySettings,
    KeepCapacity,
    RefuseLowering,
    ReleaseCapacity,
    SetCapacity,
    kind_of,
    plan_capacity,
)
from helpers.domain.errors import CheckFailed, NotFound, QuantityError
from helpers.domain.quantity import canonical_count
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.ports.events import Events
from helpers.ports.log import Log
from helpers.services.capacity_observation import NODES, Pods, node_facts, owns_capacity, running_pods

OUTCOMES = ("set", "kept", "refused", "removed", "failed")


@dataclass(frozen=True)
class CapacityReport:
    """What was done (in a dry run: what would be), by node name."""

    actions: tuple[CapacityAction, ...]

    def lines(self) -> tuple[str, ...]:
        """One sentence a node, for a person."""
        return tuple(sentence(action) for action in self.actions)


def sentence(action: CapacityAction) -> str:
    """`node t4-node: 14000 MiB (was absent)`."""
    match action:
        case SetCapacity():
            before = "absent" if action.from_mib is None else f"{action.from_mib} MiB"
            return f"node {action.node}: {action.to_mib} MiB (was {before})"
        case KeepCapacity():
            return f"node {action.node}: {action.at_mib} MiB already"
        case RefuseLowering():
            return action.message()
        case ReleaseCapacity():
            return f"node {action.node}: number taken off"


def outcome_of(action: CapacityAction) -> str:
    """Which of OUTCOMES an action that was carried out is."""
    match action:
        case SetCapacity():
            return "set"
        case KeepCapacity():
            return "kept"
        case RefuseLowering():
            return "refused"
        case ReleaseCapacity():
            return "removed"


class CapacityExecutor:
    """Carries out actions, and says so in the log and in an Event on the node. Reads dry_run, alone.

    In a dry run the API server checks every write without keeping it, so a missing permission shows.
    """

    def __init__(
        self, cluster: Cluster, settings: CapacitySettings, *, events: Events, log: Log, dry_run: bool
    ) -> None:
        self._cluster = cluster
        self._resource = settings.resource
        self._events = events
        self._log = log
        self._dry_run = dry_run
        self._said: dict[str, CapacityAction] = {}
        self._written: dict[str, str] = {}

    def carry_out(self, action: CapacityAction, node: Manifest) -> bool:
        """Does `action` on `node`; whether that changed (in a dry run: would change) the node.

        What cannot change by doing it again is said once, not in a loop.

        Raises:
            ClusterError: the API refused or did not answer.
        """
        repeated = self._said.get(action.node) == action
        self._said[action.node] = action
        match action:
            case SetCapacity():
                return self._set(action, node, quiet=repeated and self._dry_run)
            case ReleaseCapacity():
                return self._remove(action, node, quiet=repeated and self._dry_run)
            case RefuseLowering() if not repeated:
                self._log.error("capacity_lowering_refused", node=action.node, decision="refuse",
                                capacity_mib=action.from_mib, advertised_mib=action.to_mib,
                                pods=[str(pod) for pod in action.pods], reason=action.message())  # fmt: skip
                self._tell(node, "GpumemCapacityRefused", action.message(), warning=True)
            case _:
                pass
        return False

    def _set(self, action: SetCapacity, node: Manifest, *, quiet: bool) -> bool:
        amounts = {self._resource: canonical_count(action.to_mib)}
        manifest = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": action.node},
            "status": {"capacity": amounts, "allocatable": dict(amounts)},
        }
        # Forced: an earlier hand-written number, or a kubelet's copy of it, is ours to replace.
        result = self._cluster.apply(
            manifest,
            field_manager=names.FIELD_MANAGER_CAPACITY,
            force=True,
            subresource="status",
            dry_run=self._dry_run,
        )
        changed = self._is_new(action.node, result)
        if changed and not quiet:
            self._log.info("capacity_set", node=action.node, kind=action.kind, capacity_mib=action.from_mib,
                           advertised_mib=action.to_mib, decision="set", reason=sentence(action))  # fmt: skip
            self._tell(node, "GpumemCapacitySet", f"{self._resource}: {sentence(action)}")
        return changed

    def _is_new(self, node: str, result: Manifest) -> bool:
        # A registration is several events in a row, and those that left before our write show the node
        # without the number: the write that answers them changes nothing, and nothing is to be said.
        version, before = str(result["metadata"].get("resourceVersion", "")), self._written.get(node)
        self._written[node] = version
        return self._dry_run or version != before

    def _remove(self, action: ReleaseCapacity, node: Manifest, *, quiet: bool) -> bool:
        # Not an apply of the bare object: no manager owns the capacity, addresses and conditions that
        # a kubelet registers with (the API server strips status from the ownership of a create), and
        # when the last owned field below `status` is given back, the API server removes the parents
        # with all of that in them (measured on 1.36.1). Two nulls remove two keys, whoever owns them.
        nothing = {self._resource: None}
        result = self._cluster.merge_patch(
            ObjectRef("v1", "Node", action.node),
            {"status": {"capacity": nothing, "allocatable": nothing}},
            field_manager=names.FIELD_MANAGER_CAPACITY,
            subresource="status",
            dry_run=self._dry_run,
        )
        changed = self._is_new(action.node, result)
        if changed and not quiet:
            self._log.info("capacity_removed", node=action.node, capacity_mib=action.from_mib,
                           decision="remove", reason=sentence(action))  # fmt: skip
            self._tell(node, "GpumemCapacityRemoved", f"{self._resource}: {sentence(action)}")
        return changed

    def _tell(self, node: Manifest, reason: str, message: str, *, warning: bool = False) -> None:
        if not self._dry_run:
            self._events.record(node, reason, message, event_type="Warning" if warning else "Normal")


def plan_node(
    cluster: Cluster, settings: CapacitySettings, node: Manifest, pods: Pods | None = None
) -> CapacityAction | None:
    """What to do on one node; its pods are read only where the number would go down.

    Raises:
        CheckFailed: it matches two kinds.
        QuantityError: a number on it, or a budget of its pods, cannot be read.
        ClusterError: the API refused or did not answer.
    """
    facts = node_facts(node, settings, pods)
    kind = kind_of(settings, facts)
    lowers = kind is not None and facts.capacity_mib is not None and kind.advertised_mib < facts.capacity_mib
    if pods is None and lowers:
        facts = node_facts(node, settings, running_pods(cluster, settings.resource, facts.name))
    return next(iter(plan_capacity(settings, [facts])), None)


def assert_capacity(
    cluster: Cluster, settings: CapacitySettings, *, events: Events, log: Log, dry_run: bool = False
) -> CapacityReport:
    """Makes every node show its number, once.

    A node that cannot be done does not keep the others from it; the failures are raised at the end.

    Raises:
        CheckFailed: a lowering was refused, a node matches two kinds, or a number cannot be read;
            names each node and what to do.
        ClusterError: the API refused or did not answer.
    """
    executor = CapacityExecutor(cluster, settings, events=events, log=log, dry_run=dry_run)
    pods = running_pods(cluster, settings.resource)
    nodes = sorted(cluster.list(NODES), key=lambda node: str(node["metadata"]["name"]))
    actions: list[CapacityAction] = []
    failures: list[str] = []
    for node in nodes:
        try:
            action = plan_node(cluster, settings, node, pods)
            if action is None:
                continue
            executor.carry_out(action, node)
        except (CheckFailed, QuantityError) as error:
            log.error("capacity_node_unclear", node=node["metadata"]["name"], reason=str(error))
            failures.append(str(error))
        except NotFound:
            # It left between the list and the write: nothing to advertise, and no failure.
            log.info("capacity_node_left", node=node["metadata"]["name"])
        else:
            actions.append(action)
    _finish("capacity_asserted", actions, failures, log)
    _warn_of_missing(settings, actions, log)
    failures += [action.message() for action in actions if isinstance(action, RefuseLowering)]
    if failures:
        raise CheckFailed("\n".join(failures))
    return CapacityReport(tuple(actions))


def unset_capacity(
    cluster: Cluster, settings: CapacitySettings, *, events: Events, log: Log, dry_run: bool = False
) -> CapacityReport:
    """Takes the number off every node that carries ours. Pods that run stay: only lowering hurts them.

    A number that somebody else wrote, and we never took over, is left and named in the log.

    Raises:
        ClusterError: the API refused or did not answer.
    """
    executor = CapacityExecutor(cluster, settings, events=events, log=log, dry_run=dry_run)
    actions: list[CapacityAction] = []
    for node in sorted(cluster.list(NODES), key=lambda node: str(node["metadata"]["name"])):
        name, status = str(node["metadata"]["name"]), node.get("status", {})
        if owns_capacity(node, settings.resource):
            action = ReleaseCapacity(name, _readable_capacity_mib(node, settings))
            try:
                executor.carry_out(action, node)
            except NotFound:
                log.info("capacity_node_left", node=name)
            else:
                actions.append(action)
        elif settings.resource in {**(status.get("capacity") or {}), **(status.get("allocatable") or {})}:
            log.warning("capacity_not_ours", node=name, reason=f"{settings.resource} there was written by others")
    _finish("capacity_unset", actions, [], log)
    return CapacityReport(tuple(actions))


def _readable_capacity_mib(node: Manifest, settings: CapacitySettings) -> int | None:
    # For the log only: an odd number must not keep us from taking it off.
    try:
        return node_facts(node, settings).capacity_mib
    except QuantityError:
        return None


def _finish(event: str, actions: Sequence[CapacityAction], failures: Iterable[str], log: Log) -> None:
    outcomes = [outcome_of(action) for action in actions] + ["failed" for _ in failures]
    log.info(event, **{f"{outcome}_count": outcomes.count(outcome) for outcome in OUTCOMES})


def _warn_of_missing(settings: CapacitySettings, actions: Sequence[CapacityAction], log: Log) -> None:
    kinds = [action.kind for action in actions if not isinstance(action, ReleaseCapacity)]
    for kind in settings.nodes:
        if kinds.count(kind.name) < kind.min_nodes:
            log.warning("capacity_nodes_missing", kind=kind.name, node_count=kinds.count(kind.name),
                        min_nodes_count=kind.min_nodes,
                        reason="nothing to advertise on yet; the gate waits for them")  # fmt: skip
