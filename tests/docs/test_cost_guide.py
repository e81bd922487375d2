"""The guide on cost, held against the code: every figure in it is calculated here."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from bench.cost_simulation import SEEDS, over_seeds
from bench.cost_world import Assumptions
from helpers.domain.cost.budget_alerts import THRESHOLDS
from helpers.domain.cost.comparison import WANTED_SAVING_RATIO
from helpers.domain.cost.estimate import HIGH_RATIO, LEAST_RUNS_COUNT, LIKELY_RATIO, LOW_RATIO, MANY_RUNS_COUNT
from helpers.domain.cost.gpu_advice import PREFERENCE, WorkClass, advise_gpu
from helpers.domain.cost.held import CardMemory, Segment, WholeCards, charges, cost_of
from helpers.domain.cost.money import UNIT_USD
from helpers.domain.cost.price_data import AWS, DEFAULT, REFERENCE
from helpers.domain.cost.price_history import history_of
from helpers.domain.cost.price_table import CapacityType
from helpers.domain.cost.reserved import LEAST_HOURS_COUNT
from helpers.domain.cost.shared_card import Budgeted, Card, Measured, card_bill
from helpers.domain.cost.spot_mix import TARGET_SPOT_RATIO
from helpers.domain.estate.prices import Prices

GUIDE = (Path(__file__).resolve().parents[2] / "docs/guides/cost.md").read_text()
TEXT = " ".join(GUIDE.split())
ROWS = re.findall(r"^\| `(\w+GB)` \| `([\w.]+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+|none) \|$", GUIDE, re.MULTILINE)
START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HISTORY = history_of(Prices())


@pytest.mark.parametrize(("gpu", "instance", "on_demand", "spot", "reference"), ROWS)
def test_a_row_is_the_tables(gpu: str, instance: str, on_demand: str, spot: str, reference: str) -> None:
    assert AWS.row(gpu).instance_type == instance
    assert AWS.usd_per_gpu_hour(gpu, CapacityType.ON_DEMAND) == Decimal(on_demand)
    assert AWS.usd_per_gpu_hour(gpu, CapacityType.SPOT) == Decimal(spot)
    quoted = {row.gpu: row.usd_per_gpu_hour for row in REFERENCE.rows}
    assert quoted.get(gpu) == (None if reference == "none" else Decimal(reference))


def test_every_card_has_its_row_and_the_tables_their_names() -> None:
    assert [row[0] for row in ROWS] == list(AWS.keys)
    assert f"The default table is `{DEFAULT.name}`" in TEXT
    assert f"The table `{REFERENCE.name}` keeps" in TEXT
    assert f"{AWS.spot_discount_ratio:.0%}" == "70%"
    assert "70 % off, the reference's" in TEXT
    for gpu in ("A100_80GB", "L40S_48GB"):
        assert f"`{REFERENCE.row(gpu).instance_type}` has the" in TEXT


def test_the_block_of_prices_is_one_that_an_estate_may_have() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    prices = Prices.model_validate(yaml.safe_load(block)["manager"]["prices"])
    point = history_of(prices).at("A100_80GB", CapacityType.ON_DEMAND, datetime(2026, 12, 1, tzinfo=UTC))
    assert point is not None
    assert point.usd_per_gpu_hour == Decimal("3.10")


def cost_usd(gpu: str, quantity: WholeCards | CardMemory, kind: CapacityType, span: timedelta) -> Decimal | None:
    segment = Segment("j", "p", None, gpu, quantity, kind, START, START + span)
    return cost_of(charges([segment], HISTORY, START, START + 2 * DAY)).usd


def test_the_two_jobs() -> None:
    four = cost_usd("A100_80GB", WholeCards(4), CapacityType.SPOT, timedelta(minutes=30))
    assert f"4 x 0.5 x 1.029264375 = {four} USD" in TEXT
    small = cost_usd("T4_16GB", CardMemory(3000, 15360), CapacityType.ON_DEMAND, DAY)
    assert f"0.526 x 24 x 3000 / 15360 = {small} USD" in TEXT
    assert f"to {UNIT_USD} USD" in TEXT


def test_the_shared_cards_bill_line_by_line() -> None:
    end = START + DAY
    bill = card_bill(
        Card("T4", 15360, 14000),
        list(HISTORY.spans("T4_16GB", CapacityType.ON_DEMAND, START, end)),
        [Budgeted("chat", 5000, START, end), Budgeted("batch", 6000, START, START + DAY / 2)],
        [Measured("chat", 4000, START, end)],
    )
    assert bill.usd is not None
    rows = re.findall(r"^\| (?:`(\w+)` )?(\w+) \| (\d+) \| ([\d.]+) \|$", GUIDE, re.MULTILINE)
    expected = [
        (line.tenant or "", line.part.value, str(line.mib_seconds), str(usd))
        for line, usd in zip(bill.lines, bill.usd, strict=True)
    ]
    assert rows == expected
    assert f"for 24 hours: {sum(bill.usd)} USD" in TEXT


def test_the_estimates_numbers() -> None:
    assert f"rests on {LEAST_RUNS_COUNT} or more measured runs" in TEXT
    assert f"From {MANY_RUNS_COUNT} runs on" in TEXT
    assert (LOW_RATIO, LIKELY_RATIO, HIGH_RATIO) == (0.10, 0.50, 0.90)
    assert "(the 10th, 50th and 90th percentile)" in TEXT


def test_the_advice() -> None:
    first = {work: types[0] for work, types in PREFERENCE.items()}
    assert first == {WorkClass.INFERENCE: "T4", WorkClass.TRAINING: "A100", WorkClass.LARGE_TRAINING: "H100"}
    assert "T4 first for inference, A100 for training, H100 for large training" in TEXT
    found = advise_gpu(AWS, 30_000, WorkClass.TRAINING)
    assert found is not None
    assert found.cheaper is not None
    assert f"30000 MiB of training is an `{found.row.gpu}`, and `{found.cheaper.gpu}` is named" in TEXT
    assert f"at most {float(100 * TARGET_SPOT_RATIO):.0f} % of the hours" in TEXT
    assert LEAST_HOURS_COUNT == 7 * 24
    assert "a week is the least to judge by" in TEXT


def test_the_thresholds_and_the_wish() -> None:
    near, reached = (f"{100 * ratio:.0f}" for ratio in THRESHOLDS)
    assert f"At {near} and {reached} % of a project's monthly budget" in TEXT
    assert f"The reference wants {float(100 * WANTED_SAVING_RATIO):.0f} % less" in TEXT


def test_the_simulated_week() -> None:
    found = over_seeds(Assumptions(), SEEDS)

    def middle(name: str) -> str:
        return f"{100 * found[name][1]:.0f} %"

    cards = f"{found['same_wait_cards_count'][1]:.0f} cards"
    same_wait, busy = middle("saved_ratio_same_wait"), middle("saved_ratio_busy_40_percent")
    alone, busy_alone = (f"{middle(f'without_spot_saved_ratio_{name}')}" for name in ("same_wait", "busy_40_percent"))
    assert f"| as large as keeps the wait ({cards}) | {same_wait} | {alone} |" in TEXT
    assert f"| 40 % busy, as the reference says of its own | {busy} | {busy_alone} |" in TEXT
    assert f"| never idle, which none is | {middle('saved_ratio_never_idle')} | not asked |" in TEXT
    assert f"here {middle('idle_cost_ratio')} of the bill" in TEXT
    assert f"At {Assumptions().jobs_per_month} jobs a month, the middle of {len(SEEDS)} seeds" in TEXT
