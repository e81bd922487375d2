"""Two estates and their renderings in, the review out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.estate.review import FINDING_KINDS
from helpers.domain.ledger import build_ledger
from helpers.domain.review.documents import Document, DocumentChange, compare_documents
from helpers.domain.review.findings import Facts, find
from helpers.domain.review.model import RISKS, Finding, ObjectRow, PendingRow, ReviewResult, TenantRow
from helpers.domain.review.numbers import Side, gpus_of, node_row, room_mib
from helpers.domain.review.order import lowering_under_pods, order_of
from helpers.domain.review.places import Places
from helpers.domain.review.replay import NodeReplay, established, replay_node
from helpers.domain.review.tenants import TenantChange, tenant_changes
from helpers.domain.watchdog.recommendation import Recommendation

# What --allow-overflow accepts: that somebody waits. Never what would crowd a card or fail an apply.
OVERFLOW = ("over_commit", "always_on_pending")


@dataclass(frozen=True)
class Rendering:
    """An estate and the documents that it renders to, by wave and address; `addresses` as in `tenant_changes`."""

    name: str
    estate: Estate
    documents: Mapping[tuple[int, str], Document]
    addresses: Mapping[tuple[str, str], str]


def review_change(
    before: Rendering,
    after: Rendering,
    *,
    use: Mapping[str, Recommendation] | None = None,
    allow_overflow: bool = False,
) -> ReviewResult:
    """What the change from `before` to `after` does. `use`: what was measured, by tenant; None: nothing was asked."""
    base, new = before.estate, after.estate
    changes = compare_documents(before.documents, after.documents)
    tenants = tenant_changes(base, new, changes, {**before.addresses, **after.addresses})
    pairs = _node_pairs(base, new)
    restarting = {one.name for one in tenants if one.restart or one.replaced or one.fate in ("moved", "handed over")}
    replays = {node.name: replay_node(base, pairs[node.name], new, node, restarting) for node in new.nodes}
    sides = _sides(base, new, pairs, replays)
    pending = tuple(row for node in new.nodes for row in _pending(new, *sides[node.name], replays[node.name]))
    lowered = [
        found
        for node in new.nodes
        if (old := pairs[node.name]) is not None
        and not new.uses_claims(node)  # no kubelet checks claims again, and a card that shrank keeps who is on it
        and (found := lowering_under_pods(old, node, replays[node.name].before)) is not None
    ]
    gone = [node for node in base.nodes if node not in pairs.values()]
    facts = Facts(
        base,
        new,
        tenants,
        changes,
        sides,
        replays,
        pending,
        lowered,
        [node.name for node in gone],
        use,
        _helpers_restarting(changes, set(after.addresses.values())),
    )
    findings = _judged(facts, allow_overflow=allow_overflow)
    rows = [node_row(n.name, _renamed(pairs[n.name], n), sides[n.name][0], sides[n.name][1]) for n in new.nodes]
    rows += [node_row(node.name, "", _base_side(base, node), None) for node in gone]
    grown = [
        n.name
        for n in new.number_nodes()
        if (old := pairs[n.name]) is not None and n.advertised_mib > old.advertised_mib
    ]
    return ReviewResult(
        before=before.name,
        after=after.name,
        risk=max((finding.risk for finding in findings), key=RISKS.index, default="low"),
        findings=findings,
        pending=pending,
        order=order_of(changes, grown, lowered),
        nodes=tuple(rows),
        tenants=tuple(_tenant_row(one, use) for one in tenants),
        objects=tuple(_object_row(change) for change in changes),
    )


def _node_pairs(base: Estate, new: Estate) -> dict[str, Node | None]:
    """Each node entry of `new` and what it was before: by name, else by the machines that it means."""
    by_name = {node.name: node for node in base.nodes}
    names = {node.name for node in new.nodes}
    by_machines = {tuple(sorted(one.node_selector().items())): one for one in base.nodes if one.name not in names}
    pairs: dict[str, Node | None] = {}
    for node in new.nodes:
        found = by_name.get(node.name) or by_machines.get(tuple(sorted(node.node_selector().items())))
        pairs[node.name] = found
    return pairs


def _renamed(old: Node | None, node: Node) -> str:
    return old.name if old is not None and old.name != node.name else ""


def _sides(
    base: Estate, new: Estate, pairs: Mapping[str, Node | None], replays: Mapping[str, NodeReplay]
) -> dict[str, tuple[Side | None, Side]]:
    ledgers = [{entry.node.name: entry for entry in build_ledger(estate).nodes} for estate in (base, new)]
    found = {}
    for node in new.nodes:
        old, replay = pairs[node.name], replays[node.name]
        before = None if old is None else Side(base, ledgers[0][old.name], replay.before, replay.waited)
        waiting = {wait.tenant: wait.pods_count for wait in replay.waits}
        found[node.name] = (before, Side(new, ledgers[1][node.name], replay.after, waiting))
    return found


def _base_side(base: Estate, node: Node) -> Side:
    nobody = Places(node, by_claims=base.uses_claims(node))
    places, waited = established(base, node) if node.min_nodes else (nobody, {})
    return Side(base, next(entry for entry in build_ledger(base).nodes if entry.node is node), places, waited)


def _pending(new: Estate, before: Side | None, side: Side, replay: NodeReplay) -> list[PendingRow]:
    rows = []
    # Over-committed before: which always-on tenant waits was history's choice, and no file tells it.
    # So that another one might is no news, as long as the sum is no worse.
    unknown = before is not None and before.entry.slack_mib < 0 and side.entry.slack_mib >= before.entry.slack_mib
    hangs = [(name, 1, True, True) for name in replay.hangs]
    for name, count, certain, goes_on in [*((w.tenant, w.pods_count, w.certain, False) for w in replay.waits), *hangs]:
        tenant = new.tenant(name)
        assert tenant is not None, "who waits is declared"  # noqa: S101 - for the type checker
        rows.append(
            PendingRow(
                tenant=name,
                node=side.node.name,
                gpu=f"{side.node.name}, {gpus_of(side.node)}",
                pods_count=count,
                budget_mib=tenant.budget_mib,
                room_mib=room_mib(side),
                elastic=tenant.elastic,
                new=count > replay.waited.get(name, 0) and not (unknown and not tenant.elastic),
                certain=certain,
                old_pods_go_on=goes_on,
            )
        )
    return rows


def _judged(facts: Facts, *, allow_overflow: bool) -> tuple[Finding, ...]:
    """By the policy that stood before; a change cannot loosen the rule that judges it."""
    stop_on = facts.base.review.stop_on
    found = []
    for finding in find(facts):
        if finding.kind not in stop_on:
            found.append(finding)
        elif allow_overflow and finding.kind in OVERFLOW:
            found.append(finding.model_copy(update={"accepted": True}))
        else:
            found.append(finding.model_copy(update={"risk": "stop"}))
    return tuple(sorted(found, key=lambda f: (-RISKS.index(f.risk), FINDING_KINDS.index(f.kind), f.subject)))


def _helpers_restarting(changes: Sequence[DocumentChange], tenants: set[str]) -> list[str]:
    own = [change for change in changes if not (change.either.wave == 1 and change.either.address in tenants)]
    return sorted(str(change.either.body["metadata"]["name"]) for change in own if change.restarts)


def _tenant_row(change: TenantChange, use: Mapping[str, Recommendation] | None) -> TenantRow:
    tenant, before, after = change.either, change.before, change.after
    seen = (use or {}).get(change.renamed_from or tenant.name)
    return TenantRow(
        tenant=tenant.name,
        namespace=tenant.namespace,
        workload=f"{tenant.workload.kind}/{tenant.workload.name}",
        node=tenant.node,
        elastic_before=before.elastic if before else None,
        elastic=tenant.elastic,
        fate=change.fate,
        renamed_from=change.renamed_from,
        pods_before_count=change.pods_before_count,
        pods_after_count=change.pods_after_count,
        budget_before_mib=before.budget_mib if before else None,
        budget_after_mib=after.budget_mib if after else None,
        shares_before=before.shares if before else None,
        shares_after=after.shares if after else None,
        measured_p99_mib=seen.p99_mib if seen else None,
        restart_fields=change.restart.fields if change.restart else (),
        restart_how=change.restart.how if change.restart else "",
    )


def _object_row(change: DocumentChange) -> ObjectRow:
    one = change.either
    return ObjectRow(wave=one.wave, address=one.address, kind=one.kind, action=change.action, fields=change.fields)
