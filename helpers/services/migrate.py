"""Moves the tenants of one kind of node from the node's number to claims, or back, without counting MiB twice.

To claims, tenant by tenant: the number goes first, so that nobody comes by it any more; every pod that it
let in is held for; then one tenant after the other is stopped, loses its holds, gets its claim and starts.
Back is all at once (`migrate_back`). Every step can be run again: what is done already is found so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from helpers.domain import names
from helpers.domain.budget import budget_fields
from helpers.domain.demand_gates.rules import is_gated
from helpers.domain.dra.claims import driver_of
from helpers.domain.dra.holds import hold_allocation, hold_claim, hold_label, hold_name
from helpers.domain.dra.migration import Move, MovePlan, TenantFacts, cards_held, plan_moves
from helpers.domain.errors import CheckFailed
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.rendering.objects import RenderedObject
from helpers.services.budget import set_budget
from helpers.services.claims import CLAIMS, observe_held
from helpers.services.migrate_facts import (
    cards_of_kind,
    missing_cards,
    numbered_pods,
    tenant_facts,
    workload_of,
)
from helpers.services.migrate_hands import Hands, apply_rendered, start, stop, stops, wait
from helpers.services.migrate_number import number_left, take_number_off
from helpers.services.migrate_objects import Changes
from helpers.services.migrate_pods import end_pods_made_too_early, end_pods_that_run, wait_until_admitted


def plan_to_claims(cluster: Cluster, target: Estate, kind: str) -> MovePlan:
    """The turns of this kind's tenants, as the cluster is now.

    Raises:
        CheckFailed: an always-on tenant would end without a card; names it.
        ClusterError: the API refused or did not answer.
    """
    cards = cards_of_kind(cluster, target, kind)
    facts = tenant_facts(cluster, target, kind)
    taken: dict[str, int] = {}
    node_of = {card.key: card.node for card in cards}
    for held in observe_held(cluster, driver_of(target)):
        if held.key in node_of and hold_label(target.label_prefix) not in held.labels:
            place = f"{node_of[held.key]}/{held.key[2]}"
            taken[place] = taken.get(place, 0) + held.memory_mib
    mine = {pod for one in facts for pod in one.old_pods}
    strangers = [pod for pod in numbered_pods(cluster, target, kind) if pod not in mine]
    plan = plan_moves(facts, cards, taken, strangers)
    had_a_card = {one.tenant.name for one in facts if one.old_pods and not one.tenant.elastic}
    if cards and (missing := [name for name in plan.pending if name in had_a_card]):
        raise CheckFailed(
            f"{', '.join(missing)} would end without a card: by the number more runs on {kind} than its cards hold, or "
            "the scheduler would fill them in another way than the seating. Lower a budget, release a tenant that can "
            "wait, or mark one elastic; then plan again."
        )
    return plan


class ToClaims:
    """The move of one kind of node to claims."""

    def __init__(self, hands: Hands, target: Estate, kind: str, changes: Changes) -> None:
        self._hands = hands
        self._cluster = hands.cluster
        self._target = target
        self._kind = kind
        self._changes = changes

    def run(self) -> None:
        """All of it.

        Raises:
            CheckFailed: cards are not offered, a workload refuses its claim, or something did not come in time.
            ClusterError: the API refused or did not answer; run it again.
        """
        self._preflight()
        self._changes.apply_ahead(self._apply)
        self._wait(
            lambda: not missing_cards(self._cluster, self._target, self._kind),
            lambda: "; ".join(one.message() for one in missing_cards(self._cluster, self._target, self._kind)),
        )
        plan = plan_to_claims(self._cluster, self._target, self._kind)
        self._freeze_number()
        self._hold()
        for move in plan.moves:
            facts = self._facts_of(move.tenant)
            if facts is not None and not facts.done:
                self._keep_out()
                self._hands.say(move.text())
                self._move(facts, move)
        self._keep_out()
        for tenant in self._target.tenants:
            if tenant.node == self._kind:
                # One that an API server made by an old rule, or a DaemonSet's of a run that was broken off.
                end_pods_made_too_early(self._hands, self._target, tenant)
        self._hands.say(f"{self._kind}: every tenant has its budget by claim")
        if left := numbered_pods(self._cluster, self._target, self._kind):
            pods = ", ".join(map(str, left))
            self._hands.say(
                f"{self._kind}: still by the number, and no tenant's: {pods}. The gate waits for them, and holds "
                f"({', '.join(map(hold_name, left))}) keep that memory from claims, also when they have ended: "
                f"run gpumem migrate --to dra --node {self._kind} --execute again then, it drops them."
            )

    def _preflight(self) -> None:
        """What would be refused is refused before anything is stopped."""
        for facts in tenant_facts(self._cluster, self._target, self._kind):
            tenant = facts.tenant
            if tenant.apply == "patch":
                set_budget(self._cluster, budget_fields(self._target, tenant), dry_run=True)
            elif tenant.apply == "create":
                self._apply(self._changes.workload(tenant), dry_run=True)
            else:
                self._changes.refuse_webhook(tenant)

    def _freeze_number(self) -> None:
        """Nobody comes by the number any more. Running pods stay: a kubelet ignores a number that is missing."""
        self._changes.apply_capacity(self._apply, self._cluster)
        take_number_off(self._hands, self._target, self._kind, self._changes.newest_watch)

    def _keep_out(self) -> None:
        """Before each turn and after the last: somebody else may have written the number, and pods come by it."""
        if left := number_left(self._cluster, self._target, self._kind):
            self._hands.say(f"the number is back: {left}")
            take_number_off(self._hands, self._target, self._kind, self._changes.newest_watch)
        self._hold()

    def _hold(self) -> None:
        """For every pod that the number let in, whoever's it is."""
        cards = cards_of_kind(self._cluster, self._target, self._kind)
        self._drop_holds()
        for pod in numbered_pods(self._cluster, self._target, self._kind):
            mine = cards_held(pod, cards)
            claim = hold_claim(pod, mine, self._target.namespace, self._target.label_prefix)
            ref = ObjectRef(CLAIMS.api_version, CLAIMS.kind, hold_name(pod), self._target.namespace)
            found = self._cluster.get(ref)
            if found is None:
                found = self._cluster.create(claim, field_manager=names.FIELD_MANAGER_BUDGET)
            if not (found.get("status") or {}).get("allocation"):
                status = hold_allocation(pod, mine)
                self._cluster.merge_patch(ref, status, field_manager=names.FIELD_MANAGER_BUDGET, subresource="status")
                self._hands.say(f"held for {pod} on {', '.join(f'{card.node}/{card.device}' for card in mine)}")

    def _drop_holds(self) -> None:
        """A hold lives as long as its pod."""
        kept_uids = {pod.uid for pod in numbered_pods(self._cluster, self._target)}
        label = hold_label(self._target.label_prefix)
        for hold in holds_in(self._cluster, self._target):
            if hold["metadata"]["labels"][label] not in kept_uids:
                drop_hold(self._cluster, hold)

    def _move(self, facts: TenantFacts, move: Move) -> None:
        tenant, restarts, is_daemon_set = facts.tenant, stops(facts), facts.tenant.workload.kind == "DaemonSet"
        self._apply_all(self._changes.templates(tenant))
        if restarts:
            stop(self._hands, self._target, tenant)
        elif not is_daemon_set:
            self._switch(tenant)
        self._wait(lambda: not self._old_pods(tenant), lambda: f"{tenant.name}: old pods have not ended")
        # Whether and when a gate opens again nobody knows here.
        let_in = {name: count for name, count in move.lets_in.items() if not is_gated(self._target, name)}
        wanted = {name: self._with_card_count(name) + count for name, count in let_in.items()}
        self._drop_holds()
        for name, count in wanted.items():
            self._wait_for_cards(name, count)
        if restarts or is_daemon_set:
            self._switch(tenant)
            if tenant.apply == "admission":
                wait_until_admitted(self._hands, self._target, tenant, by_claim=True)
        if restarts:
            start(self._hands, self._target, tenant)
        self._wait_for_own(facts, move)

    def _wait_for_own(self, facts: TenantFacts, move: Move) -> None:
        """Until the tenant's new pods have cards, where they must get one now."""
        tenant = facts.tenant
        if tenant.workload.kind == "DaemonSet":
            wanted_count = len(facts.old_pods)
        else:
            wanted_count = int(bool(facts.replicas or facts.stopped))

        def have_cards() -> bool:
            end_pods_made_too_early(self._hands, self._target, tenant)
            return self._with_card_count(tenant.name) >= wanted_count

        if wanted_count and not move.waits_count and not is_gated(self._target, tenant.name):
            self._wait(have_cards, lambda: f"{tenant.name}: its new pods have no card")

    def _switch(self, tenant: Tenant) -> None:
        if tenant.apply == "patch":
            self._hands.say(set_budget(self._cluster, budget_fields(self._target, tenant)).message)
        elif tenant.apply == "create":
            self._apply(self._changes.workload(tenant))
        else:
            self._apply_all(self._changes.tenant_policies(tenant))
        workload = workload_of(self._cluster, tenant)
        if workload is not None:
            message = f"the budget of tenant {tenant.name} is a claim now: {budget_fields(self._target, tenant).text()}"
            self._hands.events.record(workload, "GpumemBudgetMoved", message)

    def _old_pods(self, tenant: Tenant) -> bool:
        if tenant.workload.kind == "DaemonSet":
            end_pods_that_run(self._hands, self._target, tenant, by_claim=False)
        facts = self._facts_of(tenant)
        return facts is not None and bool(facts.old_pods)

    def _wait_for_cards(self, tenant: str, count: int) -> None:
        self._wait(lambda: self._with_card_count(tenant) >= count, lambda: f"{tenant}: its new pods have no card")

    def _with_card_count(self, tenant: str) -> int:
        """Pods of the tenant that have a card by claim."""
        held = observe_held(self._cluster, driver_of(self._target))
        label = f"{self._target.label_prefix}/tenant"
        return len({pod for one in held if one.labels.get(label) == tenant for pod in one.pods})

    def _facts_of(self, tenant: Tenant) -> TenantFacts | None:
        found = tenant_facts(self._cluster, self._target, self._kind)
        return next((one for one in found if one.tenant.name == tenant.name), None)

    def _apply_all(self, items: Iterable[RenderedObject]) -> None:
        for item in items:
            self._apply(item)

    def _apply(self, item: RenderedObject, *, dry_run: bool = False) -> None:
        apply_rendered(self._cluster, item, self._changes.field_manager, dry_run=dry_run)

    def _wait(self, done: Callable[[], bool], problem: Callable[[], str]) -> None:
        wait(self._hands, done, problem)


def holds_in(cluster: Cluster, estate: Estate) -> list[dict[str, Any]]:
    """All holds of the estate."""
    holds = ObjectRef(CLAIMS.api_version, CLAIMS.kind, namespace=estate.namespace)
    return cluster.list(holds, label_selector=hold_label(estate.label_prefix))


def drop_hold(cluster: Cluster, hold: Manifest) -> None:
    """Gives the memory back, then deletes the claim: the scheduler looks at waiting pods again only at the former."""
    metadata = hold["metadata"]
    ref = ObjectRef(CLAIMS.api_version, CLAIMS.kind, metadata["name"], metadata["namespace"])
    freed = {"status": {"allocation": None}}
    cluster.merge_patch(ref, freed, field_manager=names.FIELD_MANAGER_BUDGET, subresource="status")
    cluster.delete(ref, uid=metadata["uid"])
