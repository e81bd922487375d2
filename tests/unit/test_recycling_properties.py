"""What must hold for every world: no tenant in budget, nothing on unknown data, one victim a deficit, the caps."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.domain.watchdog.decisions import Decision, Reason, Recycle, Refusal, is_verdict
from helpers.domain.watchdog.facts import ActRecord, ContainerUse, GpuSample, PodFacts
from helpers.domain.watchdog.pressure import doubt
from helpers.domain.watchdog.recycling import CAP_WINDOW, decide, revalidate
from helpers.domain.watchdog.settings import WatchdogSettings
from tests.cases.recycling.world import NOW, ago, rule

NODES = ("n1", "n2")
TENANTS = ("a", "b", "c")
World = tuple[WatchdogSettings, tuple[GpuSample, ...], tuple[PodFacts, ...], tuple[ActRecord, ...]]

few = settings(max_examples=250, deadline=None)


def _pods(random: Random) -> tuple[PodFacts, ...]:
    return tuple(
        PodFacts(
            namespace="ns",
            name=f"p{index}",
            uid=f"u{index}",
            node=random.choice(NODES),
            tenant=random.choice((*TENANTS, None)),
            budget_mib=random.choice((None, 0, 500, 1000, 1000, 4000)),
            owner_kind=random.choice((*("ReplicaSet",) * 6, "DaemonSet", "Node", None)),
            workload_class=random.choice(("batch", "realtime")),
            priority=random.choice((0, 0, 0, 0, 0, 2_000_000_001)),
            protected=random.random() < 0.15,
            budget_problem="unreadable" if random.random() < 0.1 else "",
            deletion_at=random.choice((*(None,) * 20, ago(-30), ago(30))),
            started_at=random.choice((*(ago(9000),) * 20, ago(1), None)),
        )
        for index in range(8)
    )


def _card(random: Random, node: str, gpu: int, pods: tuple[PodFacts, ...]) -> GpuSample:
    """Mostly what a card shows, at times nonsense: names nobody knows, ages and figures that cannot be."""
    here = [pod.name for pod in pods if pod.node == node] + (["p8", "p9"] if random.random() < 0.2 else [])
    names = random.sample(here, random.randint(0, len(here)))
    rows = tuple(ContainerUse("ns", name, "main", random.randint(0, 6000)) for name in names)
    held_mib = sum(row.used_mib for row in rows)
    free_mib = random.choice((100, 400, 1500, 5000))
    odd = random.random() < 0.15
    return GpuSample(
        node=node,
        gpu=str(gpu),
        uuid=f"{node}-{gpu}",
        sampled_at=ago(random.choice((*(2,) * 12, 3, 15, 16, 400, -0.5, -900))),
        ok=random.random() < 0.9,
        total_mib=random.choice((None, 8000)) if odd else held_mib + free_mib + 500,
        used_mib=random.choice((None, 30_000, -1)) if odd else held_mib + 50,
        free_mib=random.choice((None, free_mib)) if odd else free_mib,
        pods=rows,
        unattributed_mib=random.choice((None, 0, 450, 450, 9000)),
    )


def _record_of_the_past(random: Random, index: int) -> ActRecord:
    started = random.choice((5, 200, 1000, 3599, 3601, 9000))
    return ActRecord(
        subject=random.choice(TENANTS),
        namespace="ns",
        pod=f"p{index}",
        uid=f"u{random.randint(0, 9)}",
        node="n1",
        uuid=random.choice(("n1-0", "n1-1", "gone")),
        started_at=ago(started),
        finished_at=random.choice((None, ago(started - 4))),
        dry_run=random.random() < 0.5,
    )


def world_of(seed: int) -> World:
    """A world for each number: hypothesis chooses the numbers, which is far quicker than drawing each field."""
    random = Random(seed)  # noqa: S311 - worlds, not secrets
    chosen = WatchdogSettings(
        floor_mib=random.choice((500, 1536, 8000)),
        dry_run=random.random() < 0.5,
        cooldown_seconds=random.choice((0, 60, 300)),
        recycles_per_hour_tenant=random.choice((0, 1, 2, 3, 3, 3)),
        recycles_per_hour=random.choice((0, 1, 2, 5, 5, 5)),
        unbudgeted=random.choice(("report", "evict")),
        allow_bare_pods=random.random() < 0.5,
        tenants=tuple(
            rule(
                name,
                dry_run=random.choice((None, True, False)),
                protected=random.random() < 0.1,
                allow_daemon_set=random.random() < 0.5,
            )
            for name in TENANTS
        ),
    )
    pods = _pods(random)
    cards = tuple(_card(random, node, gpu, pods) for node in NODES for gpu in range(random.choice((0, 1, 2, 2))))
    history = tuple(_record_of_the_past(random, index) for index in range(random.choice((0, 0, 0, 0, 1, 2, 4))))
    return chosen, cards, pods, history


def worlds() -> st.SearchStrategy[World]:
    return st.integers(0, 2**48).map(world_of)


def recycles(decisions: tuple[Decision, ...]) -> list[Recycle]:
    return [decision for decision in decisions if isinstance(decision, Recycle)]


@few
@given(worlds())
def test_a_pod_within_its_budget_is_never_recycled(world: World) -> None:
    chosen, cards, everyone, history = world
    for recycle in recycles(decide(chosen, cards, everyone, history, NOW)):
        pod = recycle.victim
        held_mib = sum(
            row.used_mib for card in cards if card.node == pod.node for row in card.pods if row.pod == pod.name
        )
        assert held_mib > (pod.budget_mib or 0)
        assert 0 < recycle.overshoot_mib <= recycle.used_mib
        assert pod.budget_mib is not None or chosen.unbudgeted == "evict"


@few
@given(worlds())
def test_nothing_is_recycled_on_stale_failed_or_contradictory_samples(world: World) -> None:
    chosen, cards, everyone, history = world
    by_card = {(card.node, card.uuid): card for card in cards}
    for recycle in recycles(decide(chosen, cards, everyone, history, NOW)):
        card = by_card[recycle.card.node, recycle.card.uuid]
        assert doubt(card, chosen, NOW) is None
        assert card.ok
        assert -1 <= (NOW - card.sampled_at).total_seconds() <= 15
        assert card.free_mib is not None
        assert card.free_mib < chosen.floor_mib


@few
@given(worlds())
def test_protected_critical_static_and_leaving_pods_are_never_recycled(world: World) -> None:
    chosen, cards, everyone, history = world
    rules = {entry.name: entry for entry in chosen.tenants}
    for recycle in recycles(decide(chosen, cards, everyone, history, NOW)):
        pod = recycle.victim
        own = rules.get(pod.tenant or "")
        assert not any((pod.protected, pod.system_critical, pod.terminating, pod.budget_problem))
        assert own is None or not own.protected
        assert pod.owner_kind != "Node"
        assert pod.owner_kind is not None or chosen.allow_bare_pods
        assert pod.owner_kind != "DaemonSet" or (own is not None and own.allow_daemon_set)
        assert pod.node == recycle.card.node


@few
@given(worlds())
def test_every_card_gets_exactly_one_verdict(world: World) -> None:
    chosen, cards, everyone, history = world
    decisions = decide(chosen, cards, everyone, history, NOW)
    verdicts = [(d.card.node, d.card.uuid) for d in decisions if is_verdict(d)]
    assert sorted(verdicts) == sorted({(card.node, card.uuid) for card in cards})


@few
@given(worlds())
def test_one_victim_a_card_one_a_subject_and_the_caps_hold(world: World) -> None:
    chosen, cards, everyone, history = world
    found = recycles(decide(chosen, cards, everyone, history, NOW))
    assert max(Counter(recycle.card.uuid for recycle in found).values(), default=0) <= 1
    assert max(Counter(recycle.victim.subject for recycle in found).values(), default=0) <= 1
    for dry_run in (True, False):
        mine = [recycle for recycle in found if recycle.dry_run == dry_run]
        recent = [r for r in history if r.dry_run == dry_run and NOW - r.started_at < CAP_WINDOW]
        if mine:
            assert len(recent) + len(mine) <= chosen.recycles_per_hour
        for recycle in mine:
            subject = recycle.victim.subject
            assert sum(r.subject == subject for r in recent) + 1 <= chosen.recycles_per_hour_tenant
            for record in history:
                if record.subject == subject and record.dry_run == dry_run:
                    since = NOW - (record.finished_at or record.started_at)
                    assert since >= timedelta(seconds=chosen.cooldown_seconds)


@few
@given(worlds())
def test_a_second_run_on_the_result_recycles_nobody_there(world: World) -> None:
    chosen, cards, everyone, history = world
    chosen = chosen.model_copy(update={"cooldown_seconds": max(1.0, chosen.cooldown_seconds)})
    found = recycles(decide(chosen, cards, everyone, history, NOW))
    begun = tuple(_record(recycle) for recycle in found)
    leaving = {recycle.victim.uid for recycle in found if not recycle.dry_run}
    after = tuple(replace(pod, deletion_at=ago(-30)) if pod.uid in leaving else pod for pod in everyone)
    acted = {recycle.card.uuid for recycle in found}
    for now_pods in (everyone, after):
        again = recycles(decide(chosen, cards, now_pods, (*history, *begun), NOW))
        assert not acted & {recycle.card.uuid for recycle in again}
        assert not {r.victim.subject for r in found} & {r.victim.subject for r in again}


@few
@given(worlds())
def test_memory_on_its_way_back_that_is_enough_costs_nobody(world: World) -> None:
    chosen, cards, everyone, history = world
    for recycle in recycles(decide(chosen, cards, everyone, history, NOW)):
        assert recycle.card.deficit_mib is not None
        assert recycle.card.returning_mib < recycle.card.deficit_mib


@few
@given(worlds())
def test_revalidation_needs_newer_facts_and_the_same_victim(world: World) -> None:
    chosen, cards, everyone, history = world
    for recycle in recycles(decide(chosen, cards, everyone, history, NOW)):
        same = revalidate(recycle, chosen, cards, everyone, history, NOW)
        assert isinstance(same, Refusal)
        fresh = tuple(replace(card, sampled_at=card.sampled_at + timedelta(seconds=1)) for card in cards)
        later = NOW + timedelta(seconds=1)
        again = revalidate(recycle, chosen, fresh, everyone, history, later)
        if isinstance(again, Recycle):
            assert again.victim.uid == recycle.victim.uid
            assert again.card.sampled_at > recycle.card.sampled_at


def _record(recycle: Recycle) -> ActRecord:
    return ActRecord(
        subject=recycle.victim.subject,
        namespace=recycle.victim.namespace,
        pod=recycle.victim.name,
        uid=recycle.victim.uid,
        node=recycle.victim.node,
        uuid=recycle.card.uuid,
        started_at=NOW,
        finished_at=NOW if recycle.dry_run else None,
        dry_run=recycle.dry_run,
    )


def test_the_worlds_do_reach_recycles_refusals_and_every_brake() -> None:
    """Otherwise the properties above would hold for want of examples."""
    found = [decision for seed in range(1500) for decision in decide(*world_of(seed), NOW)]
    made = Counter(recycle.dry_run for recycle in recycles(tuple(found)))
    refused = Counter(decision.reason for decision in found if isinstance(decision, Refusal))
    assert min(made[True], made[False]) >= 100
    assert set(Reason) - set(refused) == {Reason.ENOUGH_FREE, Reason.OFFENDER, Reason.NOT_CONFIRMED}
