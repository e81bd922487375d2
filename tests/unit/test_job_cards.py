"""How jobs sit on a node's cards: nothing is lost, nothing overlaps, and the order is stable."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from helpers.domain.jobs.cards import GpuNode, Seated, node_cards
from helpers.domain.jobs.gpus import Demand, Pool
from tests.fakes.jobs import A100

SHARED, MIG = Pool("A100", 80, "shared"), Pool("A100", 80, "mig", "3g.40gb")
NODE = GpuNode("node", "A100", 4)


def seat(job_id: str, demand: Demand, workers: int = 1) -> Seated:
    return Seated(job_id, "vision", demand, workers)


def shown(*seated: Seated, node: GpuNode = NODE) -> list[list[tuple[str, float]]]:
    found = node_cards(node, seated)
    return [[(part.job_id, round(part.ratio, 3)) for part in parts] for parts in found.cards]


def test_whole_cards_before_parts_of_one() -> None:
    found = shown(seat("small", Demand(SHARED, 20480)), seat("big", Demand(A100, 2)), seat("mig", Demand(MIG, 1)))
    assert found == [[("big", 1.0)], [("big", 1.0)], [("mig", 0.5), ("small", 0.25)], []]


def test_each_worker_takes_its_own() -> None:
    assert shown(seat("gang", Demand(A100, 1, 8), workers=3)) == [[("gang", 1.0)]] * 3 + [[]]


def test_a_job_that_finds_no_card_is_named_and_not_lost() -> None:
    found = node_cards(GpuNode("node", "A100", 1), [seat("a", Demand(A100, 1)), seat("b", Demand(A100, 1))])
    assert found.beyond == ("b",)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([(A100, 1), (A100, 2), (SHARED, 6000), (SHARED, 30_000), (MIG, 1)]), st.integers(1, 3)
        ),
        max_size=12,
    )
)
def test_no_card_holds_more_than_itself_and_the_order_does_not_matter(
    wanted: list[tuple[tuple[Pool, int], int]],
) -> None:
    seated = [seat(f"job-{n}", Demand(pool, amount), workers) for n, ((pool, amount), workers) in enumerate(wanted)]
    found = node_cards(NODE, seated)
    assert node_cards(NODE, reversed(seated)) == found
    assert all(sum(part.ratio for part in parts) <= 1 + 1e-6 for parts in found.cards)
    counted = Counter(part.job_id for parts in found.cards for part in parts)
    for one in seated:
        each = one.demand.worker_amount if one.demand.pool.kind != "shared" else 1
        assert counted[one.job_id] == each * one.workers_count or one.job_id in found.beyond
