"""Moves the tenants of one kind of node back from claims to the node's number, all at once.

A number says nothing about cards, so no claim may be left on the kind's cards when it shows, whoever's it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from helpers.domain.budget import budget_fields
from helpers.domain.capacity import capacity_settings
from helpers.domain.dra.claims import driver_of
from helpers.domain.dra.holds import hold_label
from helpers.domain.dra.migration import TenantFacts
from helpers.domain.dra.offers import HeldMemory, held_memory
from helpers.domain.errors import CheckFailed
from helpers.domain.estate.model import Estate
from helpers.ports.cluster import Cluster
from helpers.services.budget import set_budget
from helpers.services.capacity import assert_capacity
from helpers.services.claims import observe_cards, observe_held
from helpers.services.migrate import drop_hold, holds_in
from helpers.services.migrate_facts import claimed_pods, nodes_of, tenant_facts
from helpers.services.migrate_hands import Hands, apply_rendered, start, stop, stops, wait
from helpers.services.migrate_objects import Changes
from helpers.services.migrate_pods import end_pods_that_run, wait_until_admitted


def back_to_number(hands: Hands, target: Estate, kind: str, changes: Changes) -> None:
    """All tenants of the kind stop, the number shows, all start again.

    Raises:
        CheckFailed: a claim of no tenant's is on the cards, or something did not come in time; run it again.
        ClusterError: the API refused or did not answer.
    """
    facts = tenant_facts(hands.cluster, target, kind)
    # What would be refused is refused before anything is stopped.
    for one in facts:
        changes.refuse_webhook(one.tenant)
    refuse_strangers(hands.cluster, target, kind, facts)
    for one in facts:
        if stops(one):
            stop(hands, target, one.tenant)
    for one in facts:
        _switch(hands, target, one, changes)
    wait(
        hands,
        lambda: not _claimed_pods(hands, target, kind, facts),
        lambda: f"still with a claim: {', '.join(claimed_pods(hands.cluster, target, kind))}",
    )
    # A tenant's claim outlives its pod by a moment.
    wait(
        hands,
        lambda: not claims_left(hands.cluster, target, kind),
        lambda: _refusal(kind, claims_left(hands.cluster, target, kind)),
    )
    changes.apply_capacity(lambda item: apply_rendered(hands.cluster, item, changes.field_manager), hands.cluster)
    report = assert_capacity(hands.cluster, capacity_settings(target), events=hands.events, log=hands.log)
    for line in report.lines():
        hands.say(line)
    _drop_holds_on(hands.cluster, target, kind)
    for one in facts:
        if stops(one):
            start(hands, target, one.tenant)
    hands.say(f"{kind}: every tenant has its budget by the node's number")


def claims_left(cluster: Cluster, target: Estate, kind: str) -> tuple[HeldMemory, ...]:
    """What claims have of the kind's cards, whoever's they are; holds are not counted."""
    driver, nodes = driver_of(target), {node.name for node in nodes_of(cluster, target, kind)}
    # A pool is called after its node; the slices say so where somebody calls it otherwise.
    place = {card.key: card.node for card in observe_cards(cluster, driver)}
    return tuple(
        one
        for one in observe_held(cluster, driver)
        if place.get(one.key, one.key[1]) in nodes and hold_label(target.label_prefix) not in one.labels
    )


def refuse_strangers(cluster: Cluster, target: Estate, kind: str, facts: Sequence[TenantFacts]) -> None:
    """Raises CheckFailed where a claim that is none of these tenants' has memory of the kind's cards."""
    mine, label = {one.tenant.name for one in facts}, f"{target.label_prefix}/tenant"
    strange = tuple(one for one in claims_left(cluster, target, kind) if one.labels.get(label) not in mine)
    if strange:
        raise CheckFailed(_refusal(kind, strange))


def _refusal(kind: str, left: tuple[HeldMemory, ...]) -> str:
    claims = ", ".join(
        f"{one.namespace}/{one.claim} ({one.memory_mib} MiB of {one.key[1]}/{one.key[2]}, "
        f"{'pods ' + ' '.join(one.pods) if one.pods else 'no pod'})"
        for one in left
    )
    return (
        f"nodes[{kind}]: memory of its cards is held by claim: {claims}. The number counts all of each card, so no "
        "claim may be left beside it. End those pods, delete a claim that no pod uses, or leave this kind on claims."
    )


def _switch(hands: Hands, target: Estate, one: TenantFacts, changes: Changes) -> None:
    if one.tenant.apply == "patch":
        hands.say(set_budget(hands.cluster, budget_fields(target, one.tenant)).message)
    for item in changes.of_tenant(one.tenant):
        apply_rendered(hands.cluster, item, changes.field_manager)
    if one.tenant.apply == "admission":
        wait_until_admitted(hands, target, one.tenant, by_claim=False)


def _claimed_pods(hands: Hands, target: Estate, kind: str, facts: tuple[TenantFacts, ...]) -> tuple[str, ...]:
    for one in facts:
        if one.tenant.workload.kind == "DaemonSet":
            end_pods_that_run(hands, target, one.tenant, by_claim=True)
    return claimed_pods(hands.cluster, target, kind)


def _drop_holds_on(cluster: Cluster, estate: Estate, kind: str) -> None:
    pools = {node.name for node in nodes_of(cluster, estate, kind)}
    for hold in holds_in(cluster, estate):
        if any(held.key[1] in pools for held in held_memory([hold], driver_of(estate))):
            drop_hold(cluster, hold)
