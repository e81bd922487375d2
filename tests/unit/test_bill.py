"""`gpumem bill`: what cards cost by tenant, from a trace; whatever is not known is in no line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.apps.cli import __main__ as cli
from helpers.domain.cost.money import SECONDS_PER_HOUR
from helpers.domain.cost.shared_card import Part
from helpers.domain.errors import CheckFailed, ExitCode
from helpers.domain.estate.model import Estate
from helpers.domain.watchdog.facts import CardBudget, GpuSample, PodFacts
from helpers.domain.watchdog.incident import incident_trace
from helpers.domain.watchdog.trace import Frame, Trace, to_lines
from helpers.rendering.estate_file import load_estate, parse_estate
from helpers.services.bill import EstateBill, estate_bill
from tests.cases.recycling.world import NOW, pod, sample

T4_USD_PER_HOUR = Decimal("0.526")


@pytest.fixture(scope="module")
def estate() -> Estate:
    return load_estate(Path("gpumem.yaml"))[0]


def frame(hours: float, *samples: GpuSample, pods: tuple[PodFacts, ...] = ()) -> Frame:
    return Frame(NOW + timedelta(hours=hours), samples, pods)


def card(uses: Mapping[str, int], **fields: Any) -> GpuSample:
    return sample(uses, free_mib=15_360 - sum(uses.values()), **fields)


def lines(bill: EstateBill, index: int = 0) -> dict[tuple[str | None, str], int]:
    """`{(tenant, part): MiB hours}`."""
    return {
        (line.tenant, line.part.value): round(line.mib_seconds / SECONDS_PER_HOUR)
        for line in bill.cards[index].bill.lines
    }


def usd(bill: EstateBill, index: int = 0) -> Decimal:
    amounts = bill.cards[index].bill.usd
    assert amounts is not None
    return sum(amounts, Decimal(0))


def test_used_unused_idle_and_overhead_are_the_cards_price(estate: Estate) -> None:
    chat = pod("chat", budget_mib=5000)
    trace = (frame(0, card({"ns/chat": 4000}), pods=(chat,)), frame(1, card({}), pods=(chat,)), frame(2, card({})))
    bill = estate_bill(estate, trace)
    assert lines(bill) == {
        ("chat", "used"): 4000,
        ("chat", "unused"): 1000 + 5000,
        (None, "idle"): 2 * 9000,
        (None, "overhead"): 2 * 1360,
    }
    assert usd(bill) == 2 * T4_USD_PER_HOUR
    assert (bill.cards[0].card, bill.cards[0].gpu) == ("t4-node/0", "T4_16GB")
    assert bill.notes == ()


def test_what_is_above_a_budget_is_paid_for_and_a_stranger_pays_for_all_it_uses(estate: Estate) -> None:
    chat = pod("chat", budget_mib=5000)
    trace = (frame(0, card({"ns/chat": 6000, "other/tool": 700}), pods=(chat,)), frame(1, card({})))
    found = lines(estate_bill(estate, trace))
    assert (found["chat", "used"], found["chat", "above_budget"]) == (5000, 1000)
    assert found["other/Pod/tool", "above_budget"] == 700


@pytest.mark.parametrize("unseen", [(), (card({}, ok=False),)], ids=["no sample", "a failed sample"])
def test_what_was_not_measured_is_unmeasured_and_not_unused(estate: Estate, unseen: tuple[GpuSample, ...]) -> None:
    chat = pod("chat", budget_mib=5000)
    first = frame(0, card({"ns/chat": 4000}), pods=(chat,))
    found = lines(estate_bill(estate, (first, frame(1, *unseen, pods=(chat,)), frame(2))))
    assert found["chat", "used"] == 4000
    assert found["chat", "unmeasured"] == 5000


def test_nobody_knows_what_was_used_while_nobody_looked(estate: Estate) -> None:
    chat = pod("chat", budget_mib=5000)
    hours = [0, 1, 2, 3, 10, 11]
    trace = tuple(frame(hour, card({"ns/chat": 4000}), pods=(chat,)) for hour in hours)
    found = lines(estate_bill(estate, trace))
    assert found["chat", "used"] == 4 * 4000
    assert found["chat", "unmeasured"] == 7 * 5000


TWO_CARDS = """version: 1
kubernetes: {version: "1.36"}
resource: example.com/gpumem
image: {repository: registry.example.com/gpumem, tag: "0.1.0"}
device_plugin: {managed_by: gpu-operator}
nodes:
  - name: t4-node
    selector: {nvidia.com/gpu.present: "true"}
    gpus: [{model: MODEL, count: 2, physical_mib: 15360, reserve_mib: 1360}]
watchdog: {floor_mib: 1536}
tenants: []
"""


def two_cards(model: str = "Tesla T4") -> Estate:
    return parse_estate(TWO_CARDS.replace("MODEL", model), "two.yaml")[0]


def test_a_claim_is_on_its_own_card() -> None:
    chat = pod("chat", budget_mib=3000, cards=(CardBudget("GPU-1", 3000),))
    both = (card({}), card({}, gpu="1", uuid="GPU-1"))
    bill = estate_bill(two_cards(), (frame(0, *both, pods=(chat,)), frame(1)))
    assert ("chat", "unused") not in lines(bill, 0)
    assert lines(bill, 1)["chat", "unused"] == 3000


def test_a_number_is_on_the_card_that_is_used_and_nowhere_before_that_is_known() -> None:
    chat, silent = pod("chat", budget_mib=3000), pod("silent", budget_mib=2000)
    used = (card({}), card({"ns/chat": 100}, gpu="1", uuid="GPU-1"))
    idle = (card({}), card({}, gpu="1", uuid="GPU-1"))
    trace = (frame(0, *used, pods=(chat, silent)), frame(1, *idle, pods=(chat, silent)), frame(2))
    bill = estate_bill(two_cards(), trace)
    assert lines(bill, 1)["chat", "used"] == 100
    assert lines(bill, 1)["chat", "unused"] == 2900 + 3000
    assert bill.notes == (
        "silent: its budget on t4-node is on no bill while it uses no card: several are there, and a number names none",
    )


def test_a_card_without_a_price_has_its_parts_and_no_money() -> None:
    bill = estate_bill(two_cards("Quadro RTX 5000"), (frame(0, card({})), frame(1)))
    assert lines(bill) == {(None, "idle"): 14000, (None, "overhead"): 1360}
    assert bill.cards[0].bill.usd is None
    assert "Quadro RTX 5000): no price for all of the time; give it one under manager.prices.cards" in bill.notes[0]


@pytest.mark.parametrize(
    ("trace", "why"),
    [
        ((frame(0, card({})),), "the trace has one look, and no time"),
        ((frame(0, card({}, total_mib=24_000)), frame(1)), "which card of nodes.* it is cannot be told"),
    ],
)
def test_where_no_card_can_be_billed_it_says_why(estate: Estate, trace: Trace, why: str) -> None:
    with pytest.raises(CheckFailed, match=why):
        estate_bill(estate, trace)


pods_of_a_look = st.dictionaries(st.sampled_from(["ns/a", "ns/b", "x/c"]), st.integers(0, 6000), max_size=3)


@given(st.lists(st.tuples(st.integers(1, 100), pods_of_a_look, st.integers(0, 9000), st.booleans()), min_size=2))
def test_every_bill_closes(looks: list[tuple[int, dict[str, int], int, bool]]) -> None:
    hours, trace = 0, []
    for step, uses, budget_mib, ok in looks:
        hours += step
        trace.append(frame(hours, card(uses, ok=ok), pods=(pod("a", budget_mib=budget_mib),)))
    bill = estate_bill(load_estate(Path("gpumem.yaml"))[0], tuple(trace))
    (one,) = bill.cards
    assert sum(line.mib_seconds for line in one.bill.lines) == one.bill.mib_seconds
    assert usd(bill) == (T4_USD_PER_HOUR * (hours - looks[0][0])).quantize(Decimal("0.0001"))


def test_the_command_prints_the_incident_and_its_tenants(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "incident.jsonl"
    file.write_text(to_lines(incident_trace()))
    assert cli.run(["bill", str(file), "-f", "gpumem.yaml", "-o", "json"]) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    (one,) = found["cards"]
    assert sum(Decimal(line["usd"]) for line in one["lines"]) == Decimal(one["usd"])
    assert sum(Decimal(tenant["usd"]) for tenant in found["tenants"]) == Decimal(one["usd"])
    leaking = [line for line in one["lines"] if line["part"] == Part.ABOVE_BUDGET.value]
    assert [line["tenant"] for line in leaking] == ["immich-ml"]
    assert cli.run(["bill", str(file), "-f", "gpumem.yaml"]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "t4-node/0  immich-ml      above_budget" in shown
    assert "UTC, 1 card\n" in shown
