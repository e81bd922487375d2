"""Who waits after a change: pods that run keep their place, the others look for one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.domain.budget import budget_fields
from helpers.domain.estate.model import Estate
from helpers.domain.ledger import build_ledger
from helpers.domain.review.build import Rendering, review_change
from helpers.domain.review.documents import Document
from helpers.domain.review.model import ReviewResult
from helpers.domain.review.replay import MOST_ORDERED_PODS_COUNT, established
from helpers.domain.review.tenants import BUDGET_FAMILY
from helpers.rendering.review import review_estates
from helpers.rendering.review_tables import tenant_rows
from tests.unit.test_ledger import RTX3090, T4, estate, tenant

RECREATE = {"strategy": {"type": "Recreate"}}


def review(before: Estate, after: Estate) -> ReviewResult:
    return review_estates(("before", before), ("after", after))


def quick_review(before: Estate, after: Estate) -> ReviewResult:
    """The same without the documents that decide nothing here; `patch` tenants are their budget's step."""
    return review_change(*(_steps_alone(one) for one in (before, after)))


def _steps_alone(one: Estate) -> Rendering:
    addresses = {(BUDGET_FAMILY, tenant.name): f"budget-{tenant.name}" for tenant in one.tenants}
    steps = [
        Document(1, f"budget-{tenant.name}", "Step", "tenants", budget_fields(one, tenant).to_triggers())
        for tenant in one.tenants
    ]
    return Rendering("an estate", one, {step.key: step for step in steps}, addresses)


def waits(result: ReviewResult) -> dict[str, tuple[int, bool]]:
    """`{tenant: (pods, whether in any order)}` of those that did not wait before."""
    return {row.tenant: (row.pods_count, row.certain) for row in result.pending if row.new}


def kinds(result: ReviewResult) -> set[str]:
    return {finding.kind for finding in result.findings}


def change(before: list[dict[str, Any]], after: list[dict[str, Any]], **node: Any) -> ReviewResult:
    return review(estate(before, **node), estate(after, **node))


def test_who_grows_waits_and_who_runs_keeps_its_place_whatever_the_file_says_first() -> None:
    others = [tenant("a", 5000), tenant("b", 5000)]
    found = change([*others, tenant("c", 3000, **RECREATE)], [tenant("c", 6000, **RECREATE), *others])
    assert waits(found) == {"c": (1, True)}
    assert [(row.room_mib, row.gpu) for row in found.pending] == [(4000, "n, GPU 0 (Tesla T4)")]


def test_two_that_grow_into_room_for_one_may_both_wait() -> None:
    stays = tenant("a", 8000)
    before = [stays, tenant("b", 2000, **RECREATE), tenant("c", 2000, **RECREATE)]
    found = change(before, [stays, tenant("b", 4000, **RECREATE), tenant("c", 4000, **RECREATE)])
    assert waits(found) == {"b": (1, False), "c": (1, False)}
    assert "may become Pending" in next(f.text for f in found.findings if f.kind == "always_on_pending")


def test_an_elastic_tenant_that_waited_may_take_the_place_of_one_that_restarts() -> None:
    waiting = tenant("e", 4000, elastic=True)
    before = [tenant("a", 11000), tenant("b", 3000, **RECREATE), waiting]
    found = change(before, [tenant("a", 11000, **RECREATE), tenant("b", 3001, **RECREATE), waiting])
    assert waits(found)["b"] == (1, True)
    shrunk = change(before, [tenant("a", 9000, **RECREATE), tenant("b", 3000, **RECREATE), waiting])
    assert waits(shrunk) == {"a": (1, False)}, "4000 of the 11000 that it gives back could go to e first"


def test_who_waited_before_and_still_does_is_no_finding() -> None:
    before = [tenant("a", 13000), tenant("e", 2000, elastic=True)]
    found = change(before, [*before, tenant("f", 500, elastic=True)])
    assert [(row.tenant, row.new) for row in found.pending] == [("e", False)]
    assert "elastic_pending" not in kinds(found)


def test_an_elastic_overflow_stops_nothing() -> None:
    found = change([tenant("a", 13300)], [tenant("a", 13300), tenant("e", 1000, elastic=True)])
    assert waits(found) == {"e": (1, True)}
    assert (found.risk, found.stops) == ("medium", False)


def test_a_surge_without_room_hangs_and_the_old_pod_goes_on() -> None:
    found = change([tenant("a", 7000), tenant("b", 6000)], [tenant("a", 7000), tenant("b", 6500)])
    (row,) = found.pending
    assert (row.tenant, row.old_pods_go_on) == ("b", True)
    assert "rollout_hangs" in kinds(found)
    (after,) = found.nodes[0].cards
    assert after.after is not None
    assert {seat.tenant: seat.mib for seat in after.after.seats} == {"a": 7000, "b": 6000}


def test_a_rolling_update_stops_at_the_first_pod_without_room_and_the_rest_go_on() -> None:
    rolling = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}}
    before = [tenant("a", 5000), tenant("b", 2000, replicas=4, **rolling)]
    found = change(before, [tenant("a", 5000), tenant("b", 2600, replicas=4, **rolling)])
    assert waits(found) == {"b": (1, True)}
    (card,) = found.nodes[0].cards
    assert card.after is not None
    seated = {seat.tenant: (seat.pods_count, seat.mib) for seat in card.after.seats}
    assert seated["b"] == (3, 2600 + 2 * 2000), "one is new, the second found no room, two old ones are left"


def test_a_budget_by_admission_restarts_nobody_and_counts_the_old_number_until_then() -> None:
    by_admission = {"apply": "admission", "pod_labels": {"app": "b"}}
    found = change([tenant("b", 3000, **by_admission)], [tenant("b", 6000, **by_admission)])
    (row,) = found.tenants
    assert (row.restart_fields, waits(found)) == ((), {})


def test_a_node_with_two_cards_tells_a_pod_without_a_card_from_one_that_waits() -> None:
    """ADR 0001: the scheduler counts one number a node; three pods of 16000 fit 48000 and no card holds two."""
    two = [tenant("a", 16000), tenant("b", 16000)]
    found = change(two, [*two, tenant("c", 16000)], gpus=[RTX3090])
    assert waits(found) == {}
    assert kinds(found) == {"card_over_commit", "helper_restart"}
    assert found.stops
    assert waits(change(two, [*two, tenant("c", 16001)], gpus=[RTX3090])) == {"c": (1, True)}


def test_where_budgets_are_claims_a_pod_that_no_card_holds_waits_instead_of_crowding_one() -> None:
    """The change of the test above but for the backend."""
    two = [tenant("a", 16000), tenant("b", 16000)]
    found = change(two, [*two, tenant("c", 16000)], gpus=[RTX3090], budget={"backend": "dra"})
    assert "card_over_commit" not in kinds(found)
    assert waits(found) == {"c": (1, True)}
    assert waits(change(two, [*two, tenant("c", 8000)], gpus=[RTX3090], budget={"backend": "dra"})) == {}


def test_where_budgets_are_claims_no_number_is_lowered_or_raised() -> None:
    claims: dict[str, Any] = {"budget": {"backend": "dra"}}
    large, small = {**RTX3090, "reserve_mib": 576}, {**RTX3090, "reserve_mib": 8576}
    tenants = [tenant("a", 16000, **RECREATE), tenant("b", 16000, **RECREATE), tenant("c", 8000, **RECREATE)]
    for first, second in ((large, small), (small, large)):
        found = review(estate(tenants, gpus=[first], **claims), estate(tenants, gpus=[second], **claims))
        assert not kinds(found) & {"capacity_refused", "capacity_drained"}
        assert not any("number" in step and "rises" in step for step in found.order)


def test_shares_are_a_reason_to_wait_like_memory() -> None:
    few = {"sharing": {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": 2}]}}}
    two = [tenant("a", 1000), tenant("b", 1000)]
    assert waits(change(two, [*two, tenant("c", 1000, elastic=True)], **few)) == {"c": (1, True)}


def test_a_priority_class_that_preempts_names_who_could_be_evicted() -> None:
    classes = [{"name": "high", "value": 10, "preempt": True}, {"name": "low", "value": 1}]

    def both(budget_mib: int) -> Estate:
        tenants = [tenant("a", budget_mib, priority="high", **RECREATE), tenant("b", 6000, priority="low")]
        return estate(tenants).model_copy(update={"priority_classes": with_classes.priority_classes})

    with_classes = Estate.model_validate({**estate([]).model_dump(mode="json"), "priority_classes": classes})
    found = review(both(8000), both(9000))
    assert waits(found) == {}
    (text,) = [finding.text for finding in found.findings if finding.kind == "eviction"]
    assert "may evict b, which then wait" in text


def test_beyond_so_many_pods_other_orders_are_not_tried_and_who_waits_only_may() -> None:
    few = {"sharing": {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": 1000}]}}}
    many = tenant("e", 100, elastic=True, replicas=MOST_ORDERED_PODS_COUNT + 1)
    assert waits(change([], [many], **few)) == {"e": (MOST_ORDERED_PODS_COUNT + 1 - 140, False)}


def test_who_loses_its_promise_is_told() -> None:
    found = change([tenant("a", 1000)], [tenant("a", 1000, elastic=True)])
    assert [row["what happens"] for row in tenant_rows(found)] == ["becomes elastic"]


budgets = st.integers(min_value=1, max_value=9000)
pods = st.lists(st.tuples(budgets, st.booleans(), st.integers(1, 2)), min_size=1, max_size=6)
cards = st.sampled_from([[T4], [RTX3090], [{**T4, "count": 3}]])


def built(drawn: list[tuple[int, bool, int]], gpus: list[dict[str, Any]]) -> Estate:
    tenants = [
        tenant(f"t{i}", budget_mib, elastic=elastic, replicas=replicas, **RECREATE)
        for i, (budget_mib, elastic, replicas) in enumerate(drawn)
    ]
    return estate(tenants, gpus=gpus)


@settings(max_examples=60, deadline=None)
@given(pods, cards)
def test_all_always_on_tenants_of_a_new_estate_have_a_place_exactly_where_the_ledger_seats_them(
    drawn: list[tuple[int, bool, int]], gpus: list[dict[str, Any]]
) -> None:
    new = built(drawn, gpus)
    (entry,) = build_ledger(new).nodes
    places, waited = established(new, new.nodes[0])
    elastic = {line.tenant.name for line in entry.elastic}
    placeless = (set(waited) | {pod.tenant for pod in places.crowded}) - elastic
    assert (placeless == set()) == entry.seated
    if len(entry.elastic) == 1 and entry.seated:
        (line,) = entry.elastic
        assert (line.tenant.name in {*waited, *(pod.tenant for pod in places.crowded)}) != line.fits_now


@settings(max_examples=40, deadline=None)
@given(pods, cards)
@example([(7001, True, 2), (7001, False, 2)], [{**T4, "count": 3}])  # four pods by the number, and three cards
def test_an_estate_against_itself_is_an_empty_review(
    drawn: list[tuple[int, bool, int]], gpus: list[dict[str, Any]]
) -> None:
    one = built(drawn, gpus)
    found = quick_review(one, one)
    assert found.empty
    assert (found.risk, waits(found), found.order, found.objects) == ("low", {}, (), ())


@settings(max_examples=40, deadline=None)
@given(pods, pods, cards, cards)
def test_the_way_back_has_the_same_numbers_mirrored(
    first: list[tuple[int, bool, int]],
    second: list[tuple[int, bool, int]],
    old: list[dict[str, Any]],
    new: list[dict[str, Any]],
) -> None:
    a, b = built(first, old), built(second, new)
    there, back = quick_review(a, b), quick_review(b, a)
    for one, other in zip(there.nodes, back.nodes, strict=True):
        for before, after in ((one.before, other.after), (other.before, one.after)):
            assert before is not None
            assert after is not None
            assert before.model_dump(exclude={"waiting"}) == after.model_dump(exclude={"waiting"})
    numbers = {row.tenant: (row.budget_before_mib, row.budget_after_mib) for row in there.tenants}
    assert numbers == {row.tenant: (row.budget_after_mib, row.budget_before_mib) for row in back.tenants}
    mirrored = {"added": "removed", "removed": "added"}
    fates = {row.tenant: mirrored.get(row.fate, row.fate) for row in back.tenants}
    assert fates == {row.tenant: row.fate for row in there.tenants}


@settings(max_examples=40, deadline=None)
@given(pods, pods, cards, cards)
def test_whoever_has_a_place_after_a_change_really_fits_and_nobody_is_lost(
    first: list[tuple[int, bool, int]],
    second: list[tuple[int, bool, int]],
    old: list[dict[str, Any]],
    new: list[dict[str, Any]],
) -> None:
    base = built(first, old)
    found = quick_review(base, built(second, new))
    (node,) = found.nodes
    for card in node.cards:
        if card.after is not None and "capacity_refused" not in kinds(found):
            assert sum(seat.mib for seat in card.after.seats) <= card.after.advertised_mib
    seated: dict[str, int] = {}
    for card in node.cards:
        for seat in card.after.seats if card.after else ():
            seated[seat.tenant] = seated.get(seat.tenant, 0) + seat.pods_count
    # Whoever is on no card is in no seat; the finding tells only those of them who are so by the change.
    crowded_before = established(base, base.nodes[0])[0].crowded
    if "card_over_commit" not in kinds(found) and not crowded_before:
        for row in found.tenants:
            waiting = sum(p.pods_count for p in found.pending if p.tenant == row.tenant and p.certain)
            assert seated.get(row.tenant, 0) + waiting <= row.pods_after_count
            if row.tenant not in {p.tenant for p in found.pending}:
                assert seated.get(row.tenant, 0) == row.pods_after_count


@pytest.mark.parametrize("min_nodes", [0, 2])
def test_pools_and_several_machines_are_judged_by_what_is_always_there(min_nodes: int) -> None:
    found = change([], [tenant("e", 14000, elastic=True, replicas=3)], min_nodes=min_nodes)
    assert waits(found) == ({} if min_nodes == 0 else {"e": (1, True)})
