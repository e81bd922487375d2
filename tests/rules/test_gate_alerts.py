"""The alert about demand gates, under the real promtool, on the estate of the guide."""

from __future__ import annotations

from pathlib import Path

import prometheus_client
import pytest

from helpers.adapters.gate_metrics import PrometheusGateMetrics
from helpers.domain.watchdog.settings import watchdog_settings
from helpers.rendering.monitoring_alerts import monitoring_alerts
from lab.programs import Program
from tests.fakes.gates import guide_estate
from tests.rules.card_cases import steady
from tests.rules.promtool import KINDS, Case, Firing, Rules, promtool_run, run_case
from tests.synth.estates import PROJECT

NAME = "GPUDemandGateUnsteady"


def rules() -> Rules:
    estate = guide_estate()
    return Rules(estate, watchdog_settings(estate))


def acts(act: str = "open", outcome: str = "done", pod: str = "c-0") -> str:
    labels = f'gate="vllm", act="{act}", outcome="{outcome}", pod="{pod}", instance="{pod}:9413"'
    return f"gpumem_coordinator_gate_acts_total{{{labels}}}"


def unsteady(cause: str) -> Firing:
    return Firing(
        {"gate": "vllm", "cause": cause},
        "The demand gate vllm does not come to rest.",
        f"Cause {cause}. flaps: it opened 4 times or more within an hour, and its workload starts anew each time. "
        "fails: the API refuses to scale its workload.",
    )


# One act every 10 minutes: 40 samples of 15 s.
OFTEN = "0+0x39 1+0x39 2+0x39 3+0x39 4+0x39 5+0x39 6+0x400"
SELDOM = "0+0x39 1+0x119 2+0x400"

CASES = (
    Case(NAME, "silent", {acts(): SELDOM, acts("close"): OFTEN}, {"10m": (), "70m": (), "90m": ()}),
    Case(NAME, "firing", {acts(): OFTEN}, {"20m": (), "61m": (unsteady("flaps"),)}),
    Case(
        NAME,
        "duplicate series",
        {acts(): SELDOM, acts(pod="c-1"): steady(7)},
        {"10m": (), "70m": (), "90m": ()},
    ),
    Case(NAME, "absent series", {}, {"70m": ()}),
    Case(
        NAME,
        "firing",
        {acts("close", "failed"): "0+0x39 1+0x400"},
        {"5m": (), "12m": (unsteady("fails"),), "40m": ()},
    ),
    Case(NAME, "what was overtaken is no failure", {acts("open", "overtaken"): "0+1x400"}, {"30m": ()}),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_fires_exactly_when_it_should(case: Case, promtool: Program, tmp_path: Path) -> None:
    verdict = run_case(promtool, case, rules(), tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize("case", [case for case in CASES if case.kind in ("firing", "silent")], ids=str)
def test_the_check_itself_sees_the_opposite(case: Case, promtool: Program, tmp_path: Path) -> None:
    """Negative control: with nothing expected a firing case fails, with something expected a silent one does."""
    wrong = (Firing({}, "", ""),) if case.kind == "silent" else ()
    at = {time: wrong for time, firing in case.at.items() if firing or case.kind == "silent"}
    opposite = Case(case.alert, case.kind, case.series, at)
    assert run_case(promtool, opposite, rules(), tmp_path).returncode != 0


def test_there_is_a_case_of_every_kind_and_a_page() -> None:
    assert {case.kind for case in CASES} >= set(KINDS)
    page = (PROJECT / "docs/runbooks" / f"{NAME}.md").read_text()
    for heading in ("Meaning", "First look", "Likely causes", "What to do", "Silencing"):
        assert f"## {heading}" in page


def test_an_estate_without_gates_has_none() -> None:
    example = Rules.of_example()
    found = {alert.name for alert in monitoring_alerts(example.estate, example.settings, example.monitoring)}
    assert NAME not in found


def test_promtool_finds_no_fault_in_the_rules(promtool: Program, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rules().text())
    verdict = promtool_run(promtool, "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", folder=tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_its_series_is_one_that_the_coordinator_writes() -> None:
    registry = prometheus_client.CollectorRegistry()
    PrometheusGateMetrics(registry, ["vllm"])
    text = prometheus_client.generate_latest(registry).decode()
    assert 'gpumem_coordinator_gate_acts_total{act="open",gate="vllm",outcome="done"} 0.0' in text
