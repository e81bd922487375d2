"""Who owns which MiB: sums, slack, cards, rollouts; and that nobody is ever left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.domain.estate.model import Estate
from helpers.domain.ledger import Ledger, build_ledger
from helpers.rendering.estate_file import load_estate

ROOT = Path(__file__).parents[2]
T4 = {"model": "Tesla T4", "count": 1, "physical_mib": 15360, "reserve_mib": 1360}
RTX3090 = {"model": "NVIDIA GeForce RTX 3090", "count": 2, "physical_mib": 24576, "reserve_mib": 576}
SHARING = {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": 8}]}}


def node(**changes: Any) -> dict[str, Any]:
    return {"name": "n", "selector": {"gpu": "yes"}, "gpus": [T4], "sharing": SHARING, **changes}


def tenant(name: str, budget_mib: int, **changes: Any) -> dict[str, Any]:
    workload = {"kind": "Deployment", "name": name, "container": "main"}
    basic = {"name": name, "namespace": "ai", "workload": workload, "node": "n", "apply": "patch", "class": "batch"}
    return {**basic, "budget_mib": budget_mib, **changes}


def estate(tenants: list[dict[str, Any]], **changes: Any) -> Estate:
    nodes = [node(**changes)]
    head = {"version": 1, "kubernetes": {"version": "1.36"}, "resource": "example.com/gpumem"}
    image = {"repository": "registry.example.com/gpumem", "tag": "1"}
    rest = {"image": image, "device_plugin": {"managed_by": "gpu-operator"}, "watchdog": {"floor_mib": 1}}
    return Estate.model_validate({**head, **rest, "nodes": nodes, "tenants": tenants})


def ledger(tenants: list[dict[str, Any]], **changes: Any) -> Ledger:
    return build_ledger(estate(tenants, **changes))


def can_roll(built: Ledger, name: str) -> bool:
    line = built.line(name)
    assert line is not None
    return line.can_roll


def test_the_five_tenants_of_the_t4_have_their_place_on_its_one_card() -> None:
    built = build_ledger(load_estate(ROOT / "gpumem.yaml")[0])
    (entry,) = built.nodes
    assert (entry.node.physical_mib, entry.advertised_mib, entry.always_on_mib, entry.slack_mib) == (
        15360, 14000, 13300, 700,
    )  # fmt: skip
    assert {line.tenant.name: (line.budget_sum_mib, line.cards) for line in entry.lines} == {
        "immich-ml": (3000, ((0, 0),)),
        "llama-swap": (5000, ((0, 0),)),
        "frigate": (2000, ((0, 0),)),
        "immich-server": (1800, ((0, 0),)),
        "portal-stt": (1500, ((0, 0),)),
    }
    (card,) = entry.cards
    assert (card.seated_mib, card.slack_mib) == (13300, 700)
    assert sorted(seat.tenant for seat in card.seats) == sorted(line.tenant.name for line in entry.lines)
    assert (entry.shares_count, entry.always_on_shares_count) == (8, 5)
    assert all(line.can_roll for line in entry.lines)


def test_elastic_tenants_are_told_whether_they_fit_now() -> None:
    built = ledger([tenant("a", 13300), tenant("b", 700, elastic=True), tenant("c", 701, elastic=True)])
    fits = {line.tenant.name: line.fits_now for line in built.nodes[0].lines}
    assert fits == {"a": True, "b": True, "c": False}
    assert built.nodes[0].always_on_mib == 13300
    assert [line.tenant.name for line in built.nodes[0].elastic] == ["b", "c"]


def test_an_over_committed_node_still_has_a_ledger() -> None:
    (entry,) = ledger([tenant("a", 9000), tenant("b", 8000)]).nodes
    assert (entry.slack_mib, entry.seated, entry.seating_proved) == (-3000, False, True)
    assert [line.tenant.name for line in entry.lines] == ["a", "b"]
    assert [(card.seats, card.slack_mib) for card in entry.cards] == [((), 14000)]


def test_replicas_and_nodes_count() -> None:
    (entry,) = ledger([tenant("a", 6000, replicas=3)], min_nodes=2).nodes
    assert (entry.advertised_mib, entry.always_on_mib, entry.shares_count) == (28000, 18000, 16)
    assert entry.lines[0].cards == ((0, 0), (0, 0), (1, 0))


def test_a_daemonset_has_one_pod_on_every_node() -> None:
    workload = {"kind": "DaemonSet", "name": "d", "container": "main"}
    (entry,) = ledger([tenant("d", 9000, workload=workload), tenant("a", 5000)], min_nodes=2).nodes
    assert entry.lines[0].cards == ((0, 0), (1, 0))
    assert entry.always_on_mib == 23000


def test_a_tenant_of_an_unknown_node_is_in_no_ledger_and_is_an_error_elsewhere() -> None:
    built = ledger([tenant("a", 1000, node="other"), tenant("b", 1000)])
    assert [line.tenant.name for line in built.nodes[0].lines] == ["b"]
    assert built.line("a") is None


NO_SURGE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
SURGE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
ROLLS = [
    ("recreate on a full card", 14000, {"strategy": {"type": "Recreate"}}, True),
    ("no surge on a full card", 14000, {"strategy": NO_SURGE}, True),
    ("surge on a full card", 14000, {"strategy": SURGE}, False),
    ("surge with room for one", 7000, {"strategy": SURGE}, True),
    ("surge one MiB short of room", 7001, {"strategy": SURGE}, False),
    ("the default of a foreign Deployment on a full card", 14000, {}, False),
    ("the default with four replicas, one of which may be missing", 3500, {"replicas": 4}, True),
    ("a surge that rounds to nothing stops one pod after all", 14000,
     {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "25%"}}}, True),
    ("our own rendering of one replica", 14000,
     {"apply": "create", "pod": {"containers": [{"name": "main", "image": "a:1"}]}}, True),
    ("our own rendering of two replicas", 7000,
     {"apply": "create", "replicas": 2, "pod": {"containers": [{"name": "main", "image": "a:1"}]}}, True),
    ("a StatefulSet", 14000, {"workload": {"kind": "StatefulSet", "name": "a", "container": "main"}}, True),
    ("a DaemonSet", 14000, {"workload": {"kind": "DaemonSet", "name": "a", "container": "main"}}, True),
]  # fmt: skip


@pytest.mark.parametrize(("budget_mib", "changes", "rolls"), [row[1:] for row in ROLLS], ids=[row[0] for row in ROLLS])
def test_who_can_roll(budget_mib: int, changes: dict[str, Any], rolls: bool) -> None:
    assert can_roll(ledger([tenant("a", budget_mib, **changes)]), "a") is rolls


def test_a_surge_pod_must_fit_a_card_and_not_only_the_node() -> None:
    # 8000 MiB are free on the node, 4000 on each of its two cards.
    others = [tenant("o1", 20000), tenant("o2", 15000)]
    assert not can_roll(ledger([*others, tenant("a", 5000, strategy=SURGE)], gpus=[RTX3090]), "a")
    assert can_roll(ledger([*others, tenant("a", 4000, strategy=SURGE)], gpus=[RTX3090]), "a")


def test_shares_can_stop_a_rollout_too() -> None:
    one_share = {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": 2}]}}
    built = ledger([tenant("a", 10, strategy=SURGE), tenant("b", 10, shares=1)], sharing=one_share)
    assert not can_roll(built, "a")


BUDGETS = st.lists(st.integers(1, 30000), max_size=8)


@settings(max_examples=60, deadline=None)
@given(BUDGETS, BUDGETS)
def test_nobody_is_dropped_whatever_the_budgets(always_on_mib: list[int], elastic_mib: list[int]) -> None:
    """The field's worst fault: a reader that lost the tenants it could not read, and then found room."""
    declared = [tenant(f"a{index}", mib) for index, mib in enumerate(always_on_mib)]
    declared += [tenant(f"e{index}", mib, elastic=True) for index, mib in enumerate(elastic_mib)]
    (entry,) = ledger(declared, gpus=[RTX3090]).nodes
    assert [line.tenant.name for line in entry.lines] == [item["name"] for item in declared]
    assert entry.always_on_mib == sum(always_on_mib)
    seated = [seat.tenant for card in entry.cards for seat in card.seats]
    assert sorted(seated) == (sorted(f"a{index}" for index in range(len(always_on_mib))) if entry.seated else [])
    assert all(card.slack_mib >= 0 for card in entry.cards)
    assert all(len(line.cards) == line.pods_count for line in entry.always_on) or not entry.seated
