"""Which nodes have what a job asks for, and whether all its workers find room at once."""

from __future__ import annotations

from decimal import Decimal

import pytest

from helpers.domain.estate.prices import CardPrice, Prices
from helpers.domain.jobs.gpus import Pool, card_sizes
from helpers.domain.jobs.places import Place, card_of, place_problems, places_of, sized
from helpers.domain.jobs.problems import RequestInvalid
from helpers.domain.jobs.room import Floor, PoolRooms, Room, Seats
from helpers.domain.jobs.settings import manager_settings
from lab.jobs import jobs_estate
from tests.fakes.jobs import spec
from tests.synth.estates import PROJECT, shipped

OWN = CardPrice(gpu="RTX3090_24GB", usd_per_hour=Decimal("0.25"), source="our own", add_card=True)
SIZES = card_sizes(Prices(cards=(OWN,)))
POOLS = shipped(PROJECT / "estates/gpu-pools.yaml")


@pytest.mark.parametrize(
    ("model", "physical_mib", "card"),
    [
        ("NVIDIA A100-SXM4-80GB", 81920, ("A100", 80)),
        ("NVIDIA A100-PCIE-40GB", 40960, ("A100", 40)),
        ("NVIDIA H100 80GB HBM3", 81559, ("H100", 80)),
        ("NVIDIA L40S", 46068, ("L40S", 48)),
        ("NVIDIA A10G", 23028, ("A10G", 24)),
        ("Tesla T4", 15360, ("T4", 16)),
        ("NVIDIA GeForce RTX 2060 SUPER", 8192, None),
        ("NVIDIA L40", 46068, None),
        ("NVIDIA L4", 23034, ("L4", 24)),
        ("NVIDIA GeForce RTX 3090", 24576, ("RTX3090", 24)),
        ("NVIDIA GeForce RTX 3090 Ti", 24564, None),
    ],
)
def test_a_card_is_known_by_the_name_that_nvidia_smi_prints(
    model: str, physical_mib: int, card: tuple[str, int] | None
) -> None:
    assert card_of(model, physical_mib, SIZES) == card


def test_pools_of_an_autoscaler_offer_what_they_may_grow_to() -> None:
    assert POOLS.manager is not None
    found = {place.name: place for place in places_of(POOLS, POOLS.manager)}
    a100, t4 = found["a100-pool"], found["t4-pool"]
    assert (a100.pool, a100.machine_amount, a100.most_machines_count, a100.offers_spot) == (
        Pool("A100", 80),
        8,
        3,
        True,
    )
    assert (t4.pool, t4.resource, t4.machine_amount) == (Pool("T4", 16, "shared"), "nvidia.com/gpu.shared", 56000)
    assert t4.largest_amount == 14000


def test_nodes_that_the_mig_manager_divides_offer_instances() -> None:
    assert POOLS.manager is not None
    pools = tuple(
        pool.model_copy(update={"mig_config": "all-1g.10gb"}) if pool.name == "gpu-a100" else pool
        for pool in POOLS.manager.node_pools
    )
    manager = POOLS.manager.model_copy(update={"node_pools": pools})
    found = [place for place in places_of(POOLS, manager) if place.name == "a100-pool"]
    assert [(one.pool, one.resource, one.machine_amount) for one in found] == [
        (Pool("A100", 80, "mig", "1g.10gb"), "nvidia.com/mig-1g.10gb", 56)
    ]


def test_settings_carry_places_priorities_and_the_runtime_class() -> None:
    found = manager_settings(POOLS)
    assert found is not None
    assert found.priority_classes == {"high": "gpu-high", "medium": "gpu-medium", "low": "gpu-low"}
    assert found.offers_spot
    assert not found.may_preempt
    assert len(found.places) == 4
    assert type(found).model_validate_json(found.model_dump_json(exclude_defaults=True)) == found


@pytest.mark.parametrize(
    ("asked", "path", "rule"),
    [
        ({"gpu_type": "A100"}, "gpu_requirements", "the estate has A100_80GB"),
        ({"gpu_type": "L40S", "gpu_count": 9}, "gpu_requirements.gpu_count", "has 8"),
        ({"gpu_type": "T4", "gpu_memory_mib": 15000}, "gpu_requirements.gpu_memory_mib", "has 14000"),
        ({"gpu_type": "T4"}, "gpu_requirements", "T4_16GB/mib"),
    ],
)
def test_what_no_node_can_ever_hold_is_refused(asked: dict[str, object], path: str, rule: str) -> None:
    settings = manager_settings(jobs_estate())
    assert settings is not None
    (problem,) = place_problems(spec(gpu_requirements=asked), settings.places)
    assert problem.path == path
    assert rule in problem.rule
    assert not list(place_problems(spec(gpu_requirements=asked), ()))


A100_80, A100_40, T4_SHARED, RTX = Pool("A100", 80), Pool("A100", 40), Pool("T4", 16, "shared"), Pool("RTX3090", 24)


def place(pool: Pool, largest_amount: int = 8) -> Place:
    """A node that has it."""
    card = {"gpu_type": pool.gpu_type, "size_gb": pool.size_gb, "kind": pool.kind, "profile": pool.profile}
    return Place(name=pool.name, selector={}, machine_amount=8, largest_amount=largest_amount, **card)


@pytest.mark.parametrize(
    ("asked", "pools", "pool"),
    [
        ({"gpu_type": "A100"}, [A100_80], "A100_80GB"),
        ({"gpu_type": "A100"}, [A100_40, T4_SHARED], "A100_40GB"),
        ({"gpu_type": "A100", "gpu_memory_gb": 80}, [A100_40], "A100_80GB"),  # refused later, by its name
        ({"gpu_type": "A100", "gpu_memory_mib": 3000}, [A100_40, Pool("A100", 80, "shared")], "A100_80GB/mib"),
        (
            {"gpu_type": "A100", "mig_profile": "1g.10gb"},
            [A100_40, Pool("A100", 80, "mig", "1g.10gb")],
            "A100_80GB/1g.10gb",
        ),
        ({"gpu_type": "T4"}, [T4_SHARED], "T4_16GB"),  # refused later: they are shared
        ({"gpu_type": "A100"}, [], "A100_40GB"),  # nothing is known of the nodes
        ({"gpu_type": "RTX3090"}, [A100_80, RTX], "RTX3090_24GB"),
        ({"gpu_type": "RTX3090", "gpu_memory_gb": 20}, [RTX], "RTX3090_24GB"),
        ({"gpu_type": "RTX3090"}, [], "RTX3090_24GB"),
    ],
)
def test_a_card_without_a_size_is_the_one_that_the_estate_has(
    asked: dict[str, object], pools: list[Pool], pool: str
) -> None:
    found = sized(spec(gpu_requirements=asked), [place(one, 60_000) for one in pools], SIZES)
    assert found.demand.pool.name == pool


@pytest.mark.parametrize(
    ("asked", "pools", "text"),
    [
        (
            {"gpu_type": "A100"},
            [A100_80, A100_40],
            "gpu_requirements.gpu_memory_gb\n  rule:   the estate has A100 with 40 and with 80 GB",
        ),
        ({"gpu_type": "H100"}, [A100_80], "no node of the estate has such a card; the estate has A100_80GB"),
        ({"gpu_type": "RTX3090", "gpu_memory_gb": 48}, [RTX], "the estate has RTX3090_24GB"),
        ({"gpu_type": "A100x"}, [A100_80], 'did you mean "A100"?'),
        ({"gpu_type": "RTX309"}, [], 'did you mean "RTX3090"?'),
    ],
)
def test_a_card_that_is_not_there_or_may_be_two_is_refused(
    asked: dict[str, object], pools: list[Pool], text: str
) -> None:
    with pytest.raises(RequestInvalid) as refused:
        sized(spec(gpu_requirements=asked), [place(one) for one in pools], SIZES)
    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("wanted", "before", "rooms", "lacking"),
    [
        (Seats(1, 8), [], [Room(8)], 0),
        (Seats(2, 4), [], [Room(1, count=8)], 4),
        (Seats(5, 2), [], [Room(4), Room(8)], 1),
        (Seats(5, 2), [], [Room(5), Room(8)], 0),
        # Who was let go and is not placed yet has its room first, where it leaves most whole.
        (Seats(8, 1), [Seats(1, 4)], [Room(8), Room(4)], 0),
        (Seats(8, 1), [Seats(1, 5)], [Room(8), Room(4)], 1),
        (Seats(8, 1), [Seats(1, 1), Seats(4, 1)], [Room(8), Room(4)], 1),
        # Spot and on-demand machines are not the same; one that is still to be made may be either.
        (Seats(1, 1, spot=False), [], [Room(8, spot=True)], 1),
        (Seats(1, 1, spot=True), [], [Room(8, spot=False)], 1),
        (Seats(1, 1, spot=True), [], [Room(8, spot=True)], 0),
        (Seats(1, 1, spot=True), [], [Room(8, spot=None)], 0),
        (Seats(1, 1, spot=False), [], [Room(8, spot=None)], 0),
        (Seats(8, 3), [], [Room(8, spot=None, count=2)], 1),
        (Seats(1, 1), [], [], 1),
        # What pods have that are there, and nodes that must be avoided.
        (Seats(8, 1), [], [Room(8, held={"x": 1}), Room(8)], 0),
        (Seats(8, 1), [], [Room(8, held={"x": 1}), Room(8, held={"x": 1})], 1),
        (Seats(8, 1, avoids=frozenset({"a"})), [], [Room(8, name="a"), Room(4, name="b")], 1),
        (Seats(8, 1), [Seats(4, 1, avoids=frozenset({"b"}))], [Room(8, name="a"), Room(4, name="b")], 1),
    ],
)
def test_all_find_room_or_how_many_do_not(wanted: Seats, before: list[Seats], rooms: list[Room], lacking: int) -> None:
    unplaced = {f"before-{n}": seats for n, seats in enumerate(before)}
    assert Floor(PoolRooms(rooms, unplaced), {}).lacking_count(wanted) == lacking
