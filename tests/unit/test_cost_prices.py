"""The price tables' rows and notes, what an estate overrides, and which price holds when."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from helpers.domain.cost.price_data import AWS, DEFAULT, REFERENCE, TABLES
from helpers.domain.cost.price_history import ALWAYS, history_of, table_of
from helpers.domain.cost.price_table import CapacityType
from helpers.domain.errors import InputError
from helpers.domain.estate.prices import Prices
from helpers.rendering.estate_file import load_estate

ROOT = Path(__file__).resolve().parents[2]
ON_DEMAND, SPOT = CapacityType.ON_DEMAND, CapacityType.SPOT
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("table", "gpu", "instance", "on_demand", "spot"),
    [
        (AWS, "T4_16GB", "g4dn.xlarge", "0.526", "0.1578"),
        (AWS, "A10G_24GB", "g5.xlarge", "1.006", "0.3018"),
        (AWS, "L4_24GB", "g6.xlarge", "0.8048", "0.24144"),
        (AWS, "L40S_48GB", "g6e.xlarge", "1.861", "0.5583"),
        (AWS, "A100_40GB", "p4d.24xlarge", "2.74470525", "0.823411575"),  # 21.957642 / 8
        (AWS, "A100_80GB", "p4de.24xlarge", "3.43088125", "1.029264375"),  # 27.44705 / 8
        (AWS, "H100_80GB", "p5.48xlarge", "6.88", "2.064"),  # 55.04 / 8
        (REFERENCE, "A100_80GB", "p4d.24xlarge", "4.10", "1.23"),
        (REFERENCE, "H100_80GB", "p5.48xlarge", "5.50", "1.65"),
        (REFERENCE, "L40S_48GB", "g6.48xlarge", "2.20", "0.66"),
        (REFERENCE, "A10G_24GB", "g5.xlarge", "1.10", "0.33"),
        (REFERENCE, "T4_16GB", "g4dn.xlarge", "0.526", "0.1578"),
    ],
)
def test_a_card_costs_what_its_source_says(table: Any, gpu: str, instance: str, on_demand: str, spot: str) -> None:
    assert table.row(gpu).instance_type == instance
    assert table.usd_per_gpu_hour(gpu, ON_DEMAND) == Decimal(on_demand)
    assert table.usd_per_gpu_hour(gpu, SPOT) == Decimal(spot)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_row_has_source_and_day_and_an_exact_price_a_card(table: Any) -> None:
    assert len(set(table.keys)) == len(table.rows)
    assert table.spot_source
    for row in table.rows:
        assert row.source
        assert date(2026, 2, 8) <= row.dated_on <= date(2026, 7, 20)
        assert row.usd_per_gpu_hour * row.gpus_count == row.usd_per_instance_hour
        assert row.gpus_count in (1, 2, 4, 8)


def test_the_references_slips_are_noted_where_they_stand() -> None:
    assert "p4d has the 40 GB card" in REFERENCE.row("A100_80GB").note
    assert "the L40S is g6e's" in REFERENCE.row("L40S_48GB").note
    assert (AWS.row("A100_40GB").instance_type, AWS.row("L40S_48GB").instance_type[:3]) == ("p4d.24xlarge", "g6e")
    assert DEFAULT is AWS
    assert Prices().table == DEFAULT.name
    assert set(TABLES) == set(get_args(Prices.model_fields["table"].annotation))


def test_a_card_has_at_least_the_memory_that_the_tables_assume() -> None:
    """Held against what the cards of the shipped pools report; a need is never promised what a card lacks."""
    pools, _ = load_estate(ROOT / "estates/gpu-pools.yaml")
    physical = {gpu.model: gpu.physical_mib for node in pools.nodes for gpu in node.gpus}
    said = {"Tesla T4": "T4_16GB", "NVIDIA L40S": "L40S_48GB", "NVIDIA A100-SXM4-80GB": "A100_80GB"}
    for model, gpu in {**said, "NVIDIA H100 80GB HBM3": "H100_80GB"}.items():
        assert 0.9 * physical[model] < AWS.row(gpu).least_mib <= physical[model]


@pytest.mark.parametrize(
    ("gpu_type", "at_least_gb", "keys"),
    [("A100", 0, ["A100_40GB", "A100_80GB"]), ("A100", 80, ["A100_80GB"]), ("A100", 81, []), ("B200", 0, [])],
)
def test_a_type_without_memory_may_mean_several_cards_cheapest_first(
    gpu_type: str, at_least_gb: int, keys: list[str]
) -> None:
    assert [row.gpu for row in AWS.of_type(gpu_type, at_least_gb)] == keys


def test_an_unknown_card_names_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"gpu = A100_80G: no price in aws-us-east-1-2026-07-20; did you mean A100_80GB"
    ):
        AWS.row("A100_80G")
    with pytest.raises(InputError, match="known are A100_80GB, A100_40GB"):
        AWS.row("xyz")


def prices(**fields: Any) -> Prices:
    return Prices.model_validate(fields)


def card(gpu: str, usd_per_hour: Any, **fields: Any) -> dict[str, Any]:
    return {"gpu": gpu, "usd_per_hour": usd_per_hour, "source": "contract 7", **fields}


def test_without_a_word_the_default_table_always_holds() -> None:
    point = history_of(Prices()).at("T4_16GB", ON_DEMAND, datetime(2020, 1, 1, tzinfo=UTC))
    assert point is not None
    assert (point.usd_per_gpu_hour, point.from_at) == (Decimal("0.526"), ALWAYS)
    assert point.source.endswith("(zz_generated.pricing_aws.go), 2026-07-20")


@pytest.mark.parametrize(
    ("fields", "gpu", "kind", "before", "after"),
    [
        ({}, "T4_16GB", ON_DEMAND, "0.526", "0.526"),
        ({"spot_discount_ratio": "0.5"}, "T4_16GB", SPOT, "0.263", "0.263"),
        ({"cards": [card("T4_16GB", 0.4)]}, "T4_16GB", ON_DEMAND, "0.4", "0.4"),
        ({"cards": [card("T4_16GB", 0.4)]}, "T4_16GB", SPOT, "0.12", "0.12"),
        ({"cards": [card("T4_16GB", 1e-05)]}, "T4_16GB", ON_DEMAND, "0.00001", "0.00001"),
        ({"cards": [card("T4_16GB", 0.4, spot_usd_per_hour="0.1")]}, "T4_16GB", SPOT, "0.1", "0.1"),
        ({"cards": [card("T4_16GB", 1, **{"from": date(2026, 12, 1)})]}, "T4_16GB", ON_DEMAND, "0.526", "1"),
        ({"cards": [card("T4_16GB", 1, **{"from": "2026-12-01"})]}, "T4_16GB", SPOT, "0.1578", "0.3"),
        ({"cards": [card("RTX3090_24GB", "0.2", add_card=True)]}, "RTX3090_24GB", ON_DEMAND, "0.2", "0.2"),
        ({"table": "reference-2026-02"}, "H100_80GB", ON_DEMAND, "5.50", "5.50"),
        ({"table": "reference-2026-02"}, "L4_24GB", ON_DEMAND, None, None),
    ],
)
def test_an_estates_own_price_holds_from_its_day_on(
    fields: dict[str, Any], gpu: str, kind: CapacityType, before: str | None, after: str | None
) -> None:
    history = history_of(prices(**fields))
    for at, expected in ((DECEMBER - timedelta(microseconds=1), before), (DECEMBER, after)):
        point = history.at(gpu, kind, at)
        assert (point.usd_per_gpu_hour if point else None) == (Decimal(expected) if expected else None)


def test_where_the_spot_discount_is_from_is_said() -> None:
    assert "an assumption, not a quotation" in table_of(Prices()).spot_source
    assert table_of(prices(spot_discount_ratio=0.1)).spot_source == "the estate's spot_discount_ratio"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cards": [card("A100_80GB", "cheap")]}, "a number, as it stands on the bill"),
        ({"cards": [card("A100_80GB", "1_0")]}, "a number, as it stands on the bill"),
        ({"cards": [card("A100_80GB", True)]}, "a number, as it stands on the bill"),
        ({"cards": [card("A100_80GB", float("nan"))]}, "a number, as it stands on the bill"),
        ({"cards": [card("A100_80GB", -1)]}, "greater than or equal to 0"),
        ({"cards": [card("A100_80GB", 1001)]}, "less than or equal to 1000"),
        ({"cards": [card("A100_80GB", 1, **{"from": "soon"})]}, "a day as YYYY-MM-DD"),
        ({"cards": [card("A100_80GB", 1, **{"from": DECEMBER})]}, "a day as YYYY-MM-DD"),
        ({"cards": [card("A100_80", 1)]}, "its type, an underscore, its memory in GB"),
        ({"cards": [card("A100_8GB", 1)]}, "did you mean A100_80GB"),
        ({"cards": [card("A100_80GB", 1), card("A100_80GB", 2)]}, "one price for A100_80GB from one day on"),
        ({"cards": [{"gpu": "A100_80GB", "usd_per_hour": 1}]}, "Field required"),
        ({"spot_discount_ratio": 1}, "less than 1"),
        ({"tabel": "x"}, "Extra inputs"),
        ({"table": "aws"}, "aws-us-east-1-2026-07-20"),
    ],
)
def test_a_price_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        prices(**fields)
