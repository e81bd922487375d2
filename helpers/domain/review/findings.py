"""What there is to say about a change, one finding a fact, each with its repair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from helpers.domain.estate.arithmetic import quotas_hold
from helpers.domain.estate.model import Estate
from helpers.domain.estate.review import FindingKind
from helpers.domain.ledger import build_ledger
from helpers.domain.review.documents import DocumentChange
from helpers.domain.review.model import Finding, PendingRow, Risk
from helpers.domain.review.numbers import Side, gpus_of
from helpers.domain.review.order import Lowering
from helpers.domain.review.replay import NodeReplay
from helpers.domain.review.tenants import TenantChange
from helpers.domain.watchdog.recommendation import Recommendation

_LOW: tuple[FindingKind, ...] = ("helper_restart", "measured_unknown")
_MEDIUM: tuple[FindingKind, ...] = ("elastic_pending", "restart", "policy_changed")


@dataclass(frozen=True)
class Facts:
    """All that the findings are drawn from. `sides`: `{node: (before, after)}` of the new estate's nodes."""

    base: Estate
    new: Estate
    tenants: Sequence[TenantChange]
    changes: Sequence[DocumentChange]
    sides: Mapping[str, tuple[Side | None, Side]]
    replays: Mapping[str, NodeReplay]
    pending: Sequence[PendingRow]
    lowered: Sequence[Lowering]
    removed_nodes: Sequence[str]
    use: Mapping[str, Recommendation] | None = None
    helpers_restarting: Sequence[str] = field(default=())


def find(facts: Facts) -> Iterator[Finding]:
    """Every finding, unjudged: its risk is the kind's own."""
    for before, after in facts.sides.values():
        yield from _over_commit(before, after)
    yield from _pending(facts)
    yield from _crowded(facts)
    yield from _measured(facts)
    yield from _capacity(facts)
    yield from _quotas(facts)
    yield from _evictions(facts)
    for change in facts.tenants:
        yield from _fate(change)
        yield from _restart(change)
    yield from _estate_wide(facts)


def _finding(kind: FindingKind, subject: str, text: str, repair: str) -> Finding:
    risk: Risk = "low" if kind in _LOW else ("medium" if kind in _MEDIUM else "high")
    return Finding(kind=kind, risk=risk, subject=subject, text=text, repair=repair)


def _over_commit(before: Side | None, after: Side) -> Iterator[Finding]:
    entry = after.entry
    worse = before is None or entry.slack_mib < before.entry.slack_mib
    if entry.slack_mib >= 0 or not worse:
        return
    parts = " + ".join(f"{line.tenant.name} {line.budget_sum_mib}" for line in entry.always_on)
    yield _finding(
        "over_commit",
        entry.node.name,
        f"{gpus_of(entry.node)}: always-on budgets are {entry.always_on_mib} MiB ({parts}) of {entry.advertised_mib} "
        f"advertised: slack {entry.slack_mib} MiB",
        f"lower budgets by {-entry.slack_mib} MiB, or mark a tenant elastic: true",
    )


def _pending(facts: Facts) -> Iterator[Finding]:
    for row in facts.pending:
        if not row.new:
            continue
        pods = "its pod" if row.pods_count == 1 else f"{row.pods_count} of its pods"
        verb = "becomes Pending" if row.certain else "may become Pending, depending on which pod starts first,"
        missing = f"{row.budget_mib} MiB asked for, {row.room_mib} left"
        if row.old_pods_go_on:
            text = f"its rolling update hangs: the next pod finds no room on {row.gpu} ({missing}), the old ones go on"
            repair = "use strategy Recreate or maxSurge: 0 (a foreign workload's owner has to)"
            yield _finding("rollout_hangs", row.tenant, text, repair)
        elif row.elastic:
            text = f"{pods} {verb} on {row.gpu}: {missing}; it is elastic, so it waits and disturbs nobody"
            yield _finding("elastic_pending", row.tenant, text, "lower its budget if it should run")
        else:
            repair = f"free {row.budget_mib - row.room_mib} MiB on {row.node}, or mark it elastic: true"
            if _is_stateful_set(facts.new, row.tenant):
                # Kubernetes's "forced rollback": the controller waits for the pod to be ready first.
                repair += "; a StatefulSet's Pending pod outlives a change back, until it is deleted"
            yield _finding("always_on_pending", row.tenant, f"{pods} {verb} on {row.gpu}: {missing}", repair)


def _is_stateful_set(estate: Estate, name: str) -> bool:
    tenant = estate.tenant(name)
    return tenant is not None and tenant.workload.kind == "StatefulSet"


def _crowded(facts: Facts) -> Iterator[Finding]:
    for name, replay in facts.replays.items():
        was = {pod.tenant for pod in replay.before.crowded}
        now = sorted({pod.tenant for pod in replay.after.crowded} - was)
        node = facts.sides[name][1].node
        if now:
            proof = " that was found (the search was cut short)" if replay.after.cut_short else ""
            yield _finding(
                "card_over_commit",
                name,
                f"{gpus_of(node)}: the node's number has room for {', '.join(now)}, and no card has{proof}: "
                "the scheduler starts it, and memory runs out on a card",
                "lower a budget so that each pod fits whole on a card, or use budgets by card",
            )


def _measured(facts: Facts) -> Iterator[Finding]:
    for change in facts.tenants:
        before, after = change.before, change.after
        if facts.use is None or after is None or (before is not None and before.budget_mib == after.budget_mib):
            continue
        seen = facts.use.get(change.renamed_from or after.name)
        if seen is None or seen.p99_mib is None:
            text = f"its budget becomes {after.budget_mib} MiB, and its use was not measured"
            yield _finding("measured_unknown", after.name, text, "measure first: `gpumem recommend` says how")
            continue
        raised = before is not None and after.budget_mib > before.budget_mib
        if after.budget_mib < seen.p99_mib and not raised:
            suggested = f"set {seen.suggested_mib} MiB" if seen.suggested_mib else f"set {seen.p99_mib} MiB or more"
            yield _finding(
                "below_measured_use",
                after.name,
                f"its budget becomes {after.budget_mib} MiB; its measured p99 is {seen.p99_mib} (max {seen.max_mib})",
                f"{suggested}: below it, the watchdog's next victim is chosen here",
            )


def _capacity(facts: Facts) -> Iterator[Finding]:
    for one in facts.lowered:
        what = f"{one.to_mib} MiB are less than the {one.running_mib} that run on a machine of {one.node}"
        if facts.new.capacity.drain:
            text = f"{what}; capacity.drain: true writes it all the same, and the next kubelet restart fails pods there"
            yield _finding("capacity_drained", one.node, text, "move or shrink the tenants first")
        else:
            text = f"{what}, so `gpumem capacity assert` refuses it, and the apply stops before it changed a tenant"
            repair = "make it two changes: first the tenants, then, once that is applied, the number"
            yield _finding("capacity_refused", one.node, text, repair)


def _quotas(facts: Facts) -> Iterator[Finding]:
    known = {problem.rule for problem in quotas_hold(facts.base, build_ledger(facts.base))}
    for problem in quotas_hold(facts.new, build_ledger(facts.new)):
        if problem.rule not in known:
            namespace = facts.new.quotas[int(problem.path.split("[")[1].split("]")[0])].namespace
            text = f"the quota of {namespace} is {problem.value} MiB, and {problem.rule}"
            yield _finding("quota_blocks", namespace, text, problem.repair)


def _evictions(facts: Facts) -> Iterator[Finding]:
    for replay in facts.replays.values():
        for one in replay.evictions:
            victims = ", ".join(one.victims)
            text = f"finds no room, and its priority class has preempt: true: it may evict {victims}, which then wait"
            yield _finding("eviction", one.tenant, text, "set preempt: false, so that what does not fit waits")


def _fate(change: TenantChange) -> Iterator[Finding]:
    tenant = change.either
    workload = f"{tenant.workload.kind} {tenant.namespace}/{tenant.workload.name}"
    if change.fate == "removed":
        text = {
            "create": f"{workload} is deleted",
            "patch": f"{workload} gets its budget's fields taken out: its pods start anew and are not counted any more",
            "admission": f"new pods of {workload} get no budget and are not counted any more",
        }[tenant.apply]
        yield _finding(
            "tenant_removed", tenant.name, text, "make sure that nobody needs it, and that no pod stays uncounted"
        )
    elif change.fate == "renamed":
        text = f"{change.renamed_from} is called {tenant.name} now, with the same {workload}"
        if tenant.apply == "create":
            text += ": one resource is destroyed and another created for one object, in no certain order"
        repair = f"keep the name {change.renamed_from}, or move the resource in Terraform's state before"
        yield _finding("tenant_renamed", tenant.name, text, repair)
    elif change.fate == "handed over":
        assert change.before is not None, "it was there"  # noqa: S101 - for the type checker
        text = f"apply: {change.before.apply} → {tenant.apply}: "
        text += (
            f"{workload} is deleted first" if change.before.apply == "create" else f"the owner of {workload} changes"
        )
        yield _finding("handover", tenant.name, text, "hand it over in two changes, with a look in between")
    if change.replaced:
        text = f"{workload} is made anew: the old object goes, with a field that cannot change in place"
        yield _finding("workload_replaced", tenant.name, text, "keep kind, name and namespace, or plan the outage")


def _restart(change: TenantChange) -> Iterator[Finding]:
    if change.restart is None or change.after is None:
        return
    fields, how = "; ".join(change.restart.fields), change.restart.how
    if change.after.watchdog.protected:
        text = f"it is protected, and its pods start anew ({how}): {fields}"
        yield _finding("protected_restart", change.after.name, text, "agree on a time with its people")
    else:
        yield _finding("restart", change.after.name, f"its pods start anew ({how}): {fields}", "none needed")


def _estate_wide(facts: Facts) -> Iterator[Finding]:
    base, new = facts.base, facts.new
    if base.resource != new.resource:
        text = f"it was {base.resource}: a pod that still asks for the old name waits for ever once it is started anew"
        yield _finding(
            "resource_renamed", new.resource, text, "look for the old name in every workload before the apply"
        )
    for before, after in facts.sides.values():
        if before is not None and before.node.share_resource() != after.node.share_resource():
            old, now = before.node.share_resource(), after.node.share_resource()
            text = f"shares of {after.node.name} are called {now} instead of {old}: pods that ask for {old} find none"
            yield _finding("resource_renamed", after.node.name, text, "change foreign workloads in the same hour")
    for name in facts.removed_nodes:
        text = "its machines lose their number; pods with a budget that are started anew find no place there"
        yield _finding("node_removed", name, text, "move its tenants first")
    if base.review != new.review:
        text = f"stop_on: {', '.join(base.review.stop_on) or 'nothing'} → {', '.join(new.review.stop_on) or 'nothing'}"
        yield _finding("policy_changed", "review", f"{text}; this change is still judged by the old one", "look twice")
    if facts.helpers_restarting:
        text = f"gpumem's own pods start anew: {', '.join(facts.helpers_restarting)}"
        yield _finding("helper_restart", "gpumem", text, "none needed")
