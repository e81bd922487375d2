"""Every alert under the real promtool: silent, firing, duplicate series, absent series, and what the field taught."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.domain.watchdog.settings import watchdog_settings
from helpers.rendering.monitoring import rule_groups
from lab.programs import Program
from tests.rules.card_cases import CARD_CASES, LABELS_A, TEXT_A, card, mib
from tests.rules.claims_cases import BOTH_BACKENDS_CASES, CLAIMS_CASES, both_backends_rules, claims_rules
from tests.rules.coordinator_cases import COORDINATOR_CASES, coordinator_rules
from tests.rules.gate_cases import GATE_CASES, gate_rules
from tests.rules.lease_cases import LEASE_CASES, lease_rules
from tests.rules.manager_cases import MANAGER_CASES, manager_rules
from tests.rules.objective_cases import OBJECTIVE_CASES
from tests.rules.promtool import KINDS, Case, Firing, Rules, promtool_run, run_case
from tests.rules.tenant_cases import POD, POD_LABELS, TENANT_CASES, WAITS, asks, unplaced
from tests.rules.watchdog_cases import WATCHDOG_CASES
from tests.rules.webhook_cases import WEBHOOK_CASES, webhook_rules
from tests.synth.estates import example

# The example, and the estates that have what it has not.
RULES: dict[str, Callable[[], Rules]] = {
    "example": Rules.of_example,
    "coordinator": coordinator_rules,
    "leases": lease_rules,
    "gates": gate_rules,
    "manager": manager_rules,
    "webhook": webhook_rules,
    "claims": claims_rules,
    "both backends": both_backends_rules,
}
CASES = [
    *(("example", case) for case in (*CARD_CASES, *TENANT_CASES, *WATCHDOG_CASES)),
    *(("coordinator", case) for case in COORDINATOR_CASES),
    *(("leases", case) for case in LEASE_CASES),
    *(("gates", case) for case in GATE_CASES),
    *(("manager", case) for case in (*MANAGER_CASES, *OBJECTIVE_CASES)),
    *(("webhook", case) for case in WEBHOOK_CASES),
    *(("claims", case) for case in CLAIMS_CASES),
    *(("both backends", case) for case in BOTH_BACKENDS_CASES),
]
OPPOSITES = [(estate, case) for estate, case in CASES if case.kind in ("firing", "silent")]


@pytest.mark.parametrize(("estate", "case"), CASES, ids=str)
def test_an_alert_fires_exactly_when_it_should(estate: str, case: Case, promtool: Program, tmp_path: Path) -> None:
    verdict = run_case(promtool, case, RULES[estate](), tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize(("estate", "case"), OPPOSITES, ids=str)
def test_the_check_itself_sees_the_opposite(estate: str, case: Case, promtool: Program, tmp_path: Path) -> None:
    """Negative control: with nothing expected a firing case fails, with something expected a silent one does."""
    assert run_case(promtool, case.opposite(), RULES[estate](), tmp_path).returncode != 0


def test_every_alert_has_a_case_of_every_kind() -> None:
    every = [rule for rules in RULES.values() for group in _groups(rules()) for rule in group["rules"]]
    alerts = {rule["alert"] for rule in every if "alert" in rule}
    for name in alerts:
        assert {case.kind for _, case in CASES if case.alert == name}.issuperset(KINDS), name
    assert {case.alert for _, case in CASES} == alerts


@pytest.mark.parametrize("estate", RULES)
def test_promtool_finds_no_fault_in_the_rules(estate: str, promtool: Program, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(RULES[estate]().text())
    verdict = promtool_run(promtool, "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", folder=tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def low(free_mib: int) -> Firing:
    return Firing(
        LABELS_A,
        f"{TEXT_A} is under pressure.",
        f"{free_mib} MiB are free, under the floor of 1536 MiB: the next allocation of any tenant there may fail.",
    )


# Two minutes of pressure, then plenty: with samples every 15 s it ends after 3 m.
DIP = f"{4000 * 2**20}+0x3 {1000 * 2**20}+0x7 {4000 * 2**20}+0x400"
# Four dips, ten minutes apart: what in the field were four pairs of firing and resolved.
FLAPPING = " ".join([f"{1000 * 2**20}+0x7 {4000 * 2**20}+0x31"] * 4 + [f"{4000 * 2**20}+0x400"])


def held(at: dict[str, tuple[Firing, ...]], values: str = DIP) -> Case:
    return Case("GPUVRAMLow", "held", {card("gpu_memory_free_bytes"): values}, at)


def test_the_pressure_alert_is_held_for_an_hour_after_the_pressure_ended(promtool: Program, tmp_path: Path) -> None:
    """Field fault 9: GPUVRAMLow flapped until it was kept firing for an hour."""
    case = held({"2m": (low(1000),), "10m": (low(1000),), "60m": (low(1000),), "70m": ()})
    verdict = run_case(promtool, case, Rules.of_example(), tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_without_keep_firing_for_the_same_case_fails(promtool: Program, tmp_path: Path) -> None:
    """Negative control of the one above."""
    case = held({"2m": (low(1000),), "10m": (low(1000),)})
    without = Rules.of_example(keep_firing_for_seconds=0)
    assert run_case(promtool, case, without, tmp_path).returncode != 0
    resolved = held({"2m": (low(1000),), "10m": ()})
    verdict = run_case(promtool, resolved, without, tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_four_dips_are_one_alert_and_not_four(promtool: Program, tmp_path: Path) -> None:
    every_minute: dict[str, tuple[Firing, ...]] = {f"{minute}m": (low(1000),) for minute in range(1, 60, 3)}
    verdict = run_case(promtool, held(every_minute, FLAPPING), Rules.of_example(), tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_pressure_that_vanishes_with_its_series_is_held_too(promtool: Program, tmp_path: Path) -> None:
    """An exporter that dies under pressure resolves nothing."""
    case = held({"2m": (low(1000),), "10m": (low(1000),)}, f"{1000 * 2**20}+0x8 stale")
    verdict = run_case(promtool, case, Rules.of_example(), tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_the_floor_of_the_alert_is_the_watchdogs(promtool: Program, tmp_path: Path) -> None:
    """Field fault 9: the field's alert compared with 1024 where the floor was 1536."""
    estate = example(**{"floor_mib: 1536": "floor_mib: 900"})

    rules = Rules(estate, watchdog_settings(estate))
    between = {card("gpu_memory_free_bytes"): mib(1000)}
    assert run_case(promtool, Case("GPUVRAMLow", "between", between, {"10m": ()}), rules, tmp_path).returncode == 0
    example_says = run_case(promtool, Case("GPUVRAMLow", "", between, {"10m": ()}), Rules.of_example(), tmp_path)
    assert example_says.returncode != 0


def test_an_elastic_tenant_may_wait_without_an_alert(promtool: Program, tmp_path: Path) -> None:

    estate = example(**{"  - name: llama-swap\n": "  - name: llama-swap\n    elastic: true\n"})
    rules = Rules(estate, watchdog_settings(estate))
    waiting = 'namespace="llama-cpp", pod="llama-swap-7c9d8f6b5-x2k4q"'
    other = 'namespace="llama-cpp", pod="llama-swap-cache-7c9d8f6b5-x2k4q"'
    series = {**asks(waiting, 5000), **unplaced(waiting), **asks(POD, 3000), **unplaced(POD)}
    case = Case("GPUTenantPendingOnMemory", "elastic", series, {"30m": (WAITS,)})
    verdict = run_case(promtool, case, rules, tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    stranger = Case("GPUTenantPendingOnMemory", "", {**asks(other, 1), **unplaced(other)}, {"30m": ()})
    assert run_case(promtool, stranger, rules, tmp_path).returncode != 0
    assert POD_LABELS["pod"] in POD


def test_an_estate_whose_pools_may_be_empty_needs_no_exporter(promtool: Program, tmp_path: Path) -> None:

    estate = example()
    pools = tuple(node.model_copy(update={"min_nodes": 0}) for node in estate.nodes)
    estate = estate.model_copy(update={"nodes": pools})
    case = Case("GPUVRAMTelemetryDown", "empty", {}, {"30m": ()})
    verdict = run_case(promtool, case, Rules(estate, watchdog_settings(estate)), tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def _groups(rules: Rules) -> list[dict[str, list[dict[str, str]]]]:

    groups: list[dict[str, list[dict[str, str]]]] = rule_groups(rules.estate, rules.settings, rules.monitoring)[
        "groups"
    ]
    return groups
