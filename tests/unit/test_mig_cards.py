"""Static MIG instances in the ledger: a tenant is seated on one by MiB alone."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from helpers.apps.cli.dra_commands import dra_agent_run
from helpers.domain.capacity import capacity_settings
from helpers.domain.errors import EstateInvalid
from helpers.domain.estate.model import Estate
from helpers.domain.ledger import build_ledger
from helpers.domain.report import static_report
from helpers.rendering.dra import agent_arguments
from helpers.rendering.estate_file import parse_estate

ESTATE = """
version: 1
kubernetes: {version: "1.36"}
resource: example.com/gpumem
image: {repository: registry.example.com/gpumem, tag: "0.1.0"}
device_plugin: {managed_by: gpu-operator}
budget: {backend: dra}
nodes:
  - name: a100
    selector: {gpu: a100}
    gpus:
      - model: NVIDIA A100-SXM4-80GB
        count: 1
        physical_mib: 81920
        reserve_mib: 640
        mig: {reserve_mib: 128, instances: [{profile: 1g.10gb, count: 7, physical_mib: 9728}]}
      - {model: Tesla T4, count: 1, physical_mib: 15360, reserve_mib: 1360}
watchdog: {floor_mib: 512}
tenants: []
"""


def estate(*budgets_mib: int) -> Estate:
    document = yaml.safe_load(ESTATE)
    document["tenants"] = [tenant(f"t{index}", mib) for index, mib in enumerate(budgets_mib)]
    return parse_estate(yaml.safe_dump(document), "estate.yaml")[0]


def tenant(name: str, budget_mib: int) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": "ai",
        "workload": {"kind": "StatefulSet", "name": name, "container": "main"},
        "node": "a100",
        "apply": "patch",
        "budget_mib": budget_mib,
        "class": "realtime",
    }


def test_each_instance_is_a_card_of_its_own() -> None:
    (entry,) = build_ledger(estate()).nodes
    assert [(card.gpu_index, card.mig_number, card.physical_mib, card.advertised_mib) for card in entry.cards] == [
        *((0, number, 9728, 9600) for number in range(7)),
        (1, None, 15360, 14000),
    ]
    assert entry.advertised_mib == 7 * 9600 + 14000
    assert entry.node.largest_card_mib == 14000


def test_tenants_are_seated_by_mib_alone() -> None:
    (row,) = static_report(estate(14000, 9000, 5000, 4600)).nodes
    assert {each.tenant: each.cards for each in row.tenants} == {
        "t0": ("1",),
        "t1": ("0-mig-0",),
        "t2": ("0-mig-1",),
        "t3": ("0-mig-1",),
    }


def test_no_budget_is_larger_than_the_largest_instance_or_card() -> None:
    with pytest.raises(EstateInvalid, match="the largest card of a100 advertises 14000 MiB"):
        estate(14001)


def test_what_no_instance_holds_has_no_seat() -> None:
    with pytest.raises(EstateInvalid, match="no seating exists"):
        estate(*([9000] * 7), 14000, 1000)


def test_the_gate_wants_every_instance_offered() -> None:
    (kind,) = capacity_settings(estate()).claim_nodes
    assert kind.cards_mib == (14000, *[9600] * 7)


def test_the_agent_publishes_these_profiles_with_this_reserve() -> None:
    arguments = agent_arguments(estate().nodes[0])
    assert arguments[-4:] == ["--mig-reserve-mib", "128", "--mig-profile", "1g.10gb"]
    given = dra_agent_run.make_context("run", arguments[2:]).params
    assert (given["mig_reserve_mib"], given["mig_profiles"]) == (128, ("1g.10gb",))
    assert given["reserve_by_model_mib"] == ("NVIDIA A100-SXM4-80GB=640", "Tesla T4=1360")
