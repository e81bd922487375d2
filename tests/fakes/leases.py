"""Leases for tests: one card of 7500 MiB with an always-on Ollama and an elastic trainer, and facts in one line."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from helpers.domain.estate.coordinator import Lane
from helpers.domain.lanes.settings import LaneRule
from helpers.domain.leases.book import Book, Holder, Lease
from helpers.domain.leases.decision import Decision, after, decide
from helpers.domain.leases.facts import CardFacts, LeaseSituation
from helpers.domain.leases.settings import CardRule, HolderRule, LeaseSettings, NodeRule
from tests.fakes.lanes import EVENING, NIGHT

TRAINER = Holder(user="system:serviceaccount:train:default", namespace="train", pod="trainer-0", pod_uid="u-0")


def holder_rule(tenant: str = "trainer", **fields: Any) -> HolderRule:
    block: dict[str, Any] = {
        "tenant": tenant,
        "namespace": "train",
        "kind": "Deployment",
        "name": tenant,
        "node": "desk",
        "room_mib": 6000,
        "service_accounts": ("default",),
    }
    return HolderRule(**(block | fields))


def lane_rule(name: str, tenant: str = "trainer", lane_class: str = "batch", **fields: Any) -> LaneRule:
    lane = Lane.model_validate({"name": name, "class": lane_class, "tenant": tenant} | fields)
    return LaneRule(lane=lane, need_mib=0, room_mib=6000)


# Realtime, and two batch lanes of which one has windows; all of the trainer.
LANES = (lane_rule("ask", lane_class="realtime"), lane_rule("day", priority=1), lane_rule("night", windows=[NIGHT]))


def lease_settings(*holders: HolderRule, **fields: Any) -> LeaseSettings:
    block: dict[str, Any] = {
        "holders": holders or (holder_rule(),),
        "nodes": (node_rule(),),
        "lane_nodes": {"ollama": "desk"},
        "ttl_seconds": 30.0,
        "longest_wait_seconds": 3600,
    }
    return LeaseSettings(**(block | fields))


def node_rule(*cards: CardRule, floor_mib: int = 800) -> NodeRule:
    chosen = cards or (CardRule(gpu_index=0, advertised_mib=7500, promised_mib={"ollama": 1000}),)
    return NodeRule(node="desk", exporter_url="http://127.0.0.1:9836/metrics", floor_mib=floor_mib, cards=chosen)


def wish(lease_id: str = "a", mib: int = 2000, lane: str = "day", **fields: Any) -> Lease:
    """A waiting lease, asked for in the evening; `at` moves asking and sign of life by so many seconds."""
    at = EVENING + timedelta(seconds=fields.pop("at", 0))
    block: dict[str, Any] = {
        "id": lease_id,
        "tenant": "trainer",
        "lane": lane,
        "mib": mib,
        "max_wait_seconds": 600.0,
        "holder": TRAINER.model_copy(update={"pod": f"trainer-{lease_id}"}),
        "asked_at": at,
        "seen_at": at,
    }
    return Lease(**(block | fields))


def book(*leases: Lease) -> Book:
    return Book({lease.id: lease for lease in leases})


def card(free_mib: int | None = 7000, gpu_index: int = 0, **pods_mib: int) -> CardFacts:
    """`trainer_a=500`: its pod `trainer-a` uses that much."""
    pods = {("train", name.replace("_", "-")): mib for name, mib in pods_mib.items()}
    return CardFacts("desk", gpu_index, free_mib, "" if free_mib is not None else "the exporter is silent", pods)


def now(*cards: CardFacts, seconds: float = 0, wall_at: datetime | None = None, **fields: Any) -> LeaseSituation:
    at = EVENING + timedelta(seconds=seconds)
    return LeaseSituation(now_at=at, wall_at=wall_at or at, cards={"desk": cards or (card(),)}, **fields)


def decided(
    leases: Book, situation: LeaseSituation, settings: LeaseSettings | None = None, lanes: Iterable[LaneRule] = LANES
) -> tuple[Book, tuple[Decision, ...]]:
    """The book after one pass, and what was decided."""
    decisions = decide(settings or lease_settings(), tuple(lanes), leases, situation)
    return after(leases, decisions), decisions
