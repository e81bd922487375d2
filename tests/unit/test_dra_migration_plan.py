"""The order of a move to claims, and what it says of cards that nobody can tell pods from."""

from __future__ import annotations

from helpers.domain.dra.migration import MovePlan, OldPod, TenantFacts, plan_moves
from helpers.domain.dra.naming import DRIVER
from helpers.domain.dra.offers import OfferedCard
from helpers.domain.estate.tenants import Tenant, Workload


def tenant(name: str, budget_mib: int, *, elastic: bool = False) -> Tenant:
    return Tenant(
        name=name,
        namespace="ai",
        workload=Workload(kind="Deployment", name=name, container="main"),
        node="worker",
        apply="patch",
        budget_mib=budget_mib,
        elastic=elastic,
        workload_class="realtime",
    )


def facts(name: str, budget_mib: int, *nodes: str, elastic: bool = False, moved: bool = False) -> TenantFacts:
    pods = tuple(OldPod("ai", f"{name}-{i}", f"uid-{name}-{i}", node, budget_mib) for i, node in enumerate(nodes))
    return TenantFacts(tenant(name, budget_mib, elastic=elastic), pods, max(len(nodes), 1), moved)


def cards(*sizes_mib: int, node: str = "n0") -> list[OfferedCard]:
    return [OfferedCard(node, (DRIVER, node, f"gpu-{index}"), mib) for index, mib in enumerate(sizes_mib)]


def order(plan: MovePlan) -> list[str]:
    return [move.tenant.name for move in plan.moves]


def seats(plan: MovePlan) -> dict[str, list[str]]:
    return {move.tenant.name: list(move.seats.values()) for move in plan.moves}


def test_always_on_tenants_go_first_large_ones_before_small_and_who_waits_goes_last() -> None:
    found = plan_moves(
        [
            facts("small", 2000, "n0"),
            facts("waits", 9000),
            facts("free", 5000, "n0", elastic=True),
            facts("big", 6000, "n0"),
        ],
        cards(14000),
        {},
    )
    assert order(found) == ["big", "small", "free", "waits"]
    assert found.pending == ("waits",)
    assert found.moves[-1].text() == "waits (9000 MiB): no pod runs, so none stops; 1 Pending until there is room"


def test_what_is_moved_already_is_left_alone() -> None:
    done = facts("done", 6000, moved=True)
    found = plan_moves([done, facts("left", 5000, "n0")], cards(14000), {"n0/gpu-0": 6000})
    assert order(found) == ["left"]
    assert found.pending == ()


def test_one_that_an_earlier_run_stopped_is_started_first() -> None:
    stopped = TenantFacts(tenant("chat", 6000), (), 1, moved=False, stopped=True)
    found = plan_moves([facts("big", 8000, "n0"), facts("waits", 9000), stopped], cards(14000), {})
    assert order(found) == ["chat", "big", "waits"]
    assert seats(found)["chat"] == ["n0/gpu-0"]


def test_on_two_cards_the_first_waits_until_enough_of_the_others_have_moved() -> None:
    """Every pod is held for on both cards: 8000 + 16000 leave nothing for the first of 16000."""
    tenants = [facts("a", 16000, "n0"), facts("b", 16000, "n0"), facts("c", 8000, "n0")]
    found = plan_moves(tenants, cards(24000, 24000), {})
    assert [(move.tenant.name, len(move.seats), move.waits_count) for move in found.moves] == [
        ("a", 0, 1),
        ("b", 1, 0),
        ("c", 1, 0),
    ]
    assert found.pending == ()


def test_on_two_full_cards_who_waits_gets_room_before_the_smaller_one_that_makes_it() -> None:
    """Two of 16000 and two of 8000: were the first small one to start before them, one of 16000 would find no card."""
    sizes = {"a": 16000, "b": 16000, "c": 8000, "d": 8000}
    found = plan_moves([facts(name, mib, "n0") for name, mib in sizes.items()], cards(24000, 24000), {})
    assert [(move.tenant.name, len(move.seats), move.lets_in) for move in found.moves] == [
        ("a", 0, {}),
        ("b", 0, {}),
        ("c", 0, {"a": 1, "b": 1}),
        ("d", 1, {"c": 1}),
    ]
    assert found.pending == ()
    assert found.moves[2].text() == (
        "c (8000 MiB): 1 pod stops and starts; 1 Pending until there is room; room first for a, b"
    )


def test_who_an_earlier_run_left_waiting_gets_room_before_others() -> None:
    waiting = TenantFacts(tenant("a", 16000), (), 1, moved=True, waiting_count=1)
    left = [facts("c", 8000, "n0"), facts("d", 8000, "n0")]
    found = plan_moves([waiting, *left], cards(24000, 24000), {"n0/gpu-0": 16000})
    assert [(move.tenant.name, move.lets_in) for move in found.moves] == [("c", {"a": 1}), ("d", {"c": 1})]
    assert found.pending == ()


def test_what_the_number_over_committed_ends_without_a_card() -> None:
    found = plan_moves([facts(name, 16000, "n0") for name in "abc"], cards(24000, 24000), {})
    assert len(found.pending) == 1


def test_a_pod_stays_on_its_node_where_it_can() -> None:
    both = [*cards(14000, node="n0"), *cards(14000, node="n1")]
    found = plan_moves([facts("a", 9000, "n1"), facts("b", 9000, "n0")], both, {})
    assert seats(found) == {"a": ["n1/gpu-0"], "b": ["n0/gpu-0"]}


def test_a_pod_of_no_tenant_stays_and_is_counted() -> None:
    stranger = OldPod("elsewhere", "job-0", "uid-job", "n0", 3000)
    found = plan_moves([facts("a", 9000, "n0"), facts("b", 2000)], cards(14000), {}, [stranger])
    assert seats(found) == {"a": ["n0/gpu-0"], "b": ["n0/gpu-0"]}
    found = plan_moves([facts("a", 9000, "n0"), facts("b", 2001)], cards(14000), {}, [stranger])
    assert found.pending == ("b",)
