"""The alerts about leases, under the real promtool, on an estate that has some."""

from __future__ import annotations

from pathlib import Path

import prometheus_client
import pytest

from helpers.adapters.lease_metrics import PrometheusLeaseMetrics
from helpers.domain.estate.leases import Leases, LeaseTenant
from helpers.domain.watchdog.settings import watchdog_settings
from helpers.rendering.monitoring_alerts import monitoring_alerts
from lab.programs import Program
from tests.rules.card_cases import steady
from tests.rules.promtool import KINDS, Case, Firing, Rules, promtool_run, run_case
from tests.synth.estates import PROJECT, shipped

NAMES = ("GPULeaseOverdue", "GPULeasesDown")
PASS = "gpumem_lease_last_pass_timestamp_seconds"


def rules() -> Rules:
    estate = shipped(PROJECT / "estates/rtx2060super.yaml")
    assert estate.coordinator is not None
    block = estate.coordinator.model_copy(update={"leases": Leases(tenants=(LeaseTenant(tenant="ollama"),))})
    estate = estate.model_copy(update={"coordinator": block})
    return Rules(estate, watchdog_settings(estate))


def late(cause: str = "held", pod: str = "c-0") -> str:
    return f'gpumem_lease_overdue_seconds{{tenant="trainer", lane="day", cause="{cause}", pod="{pod}"}}'


def overdue(text: str, cause: str = "held") -> Firing:
    return Firing(
        {"tenant": "trainer", "lane": "day", "cause": cause},
        f"A lease of tenant trainer in lane day is over its time by {text}.",
        f"Cause {cause}. held: the lease is over, and its pod still has the memory, which nobody else gets. "
        "waiting: a request waits longer than it said it would, and was neither granted nor refused.",
    )


def down(cause: str) -> Firing:
    return Firing(
        {"cause": cause},
        "Nobody grants leases of GPU memory.",
        f"Cause {cause}: no pass over the leases was finished within 60 s. "
        "Who holds one goes on as long as it is renewed; who asks waits.",
    )


CASES = (
    Case("GPULeaseOverdue", "silent", {late(): steady(0), late("waiting"): steady(60)}, {"30m": ()}),
    Case("GPULeaseOverdue", "firing", {late(): "0+15x400"}, {"1m": (), "2m": (overdue("2m 0s"),)}),
    Case(
        "GPULeaseOverdue",
        "duplicate series",
        {late(): steady(90), late(pod="c-1"): steady(0)},
        {"5m": (overdue("1m 30s"),)},
    ),
    Case("GPULeaseOverdue", "absent series", {}, {"30m": ()}),
    Case("GPULeaseOverdue", "who waits", {late("waiting"): steady(90)}, {"5m": (overdue("1m 30s", "waiting"),)}),
    Case("GPULeasesDown", "silent", {f'{PASS}{{pod="c-0"}}': "0+15x400"}, {"30m": ()}),
    Case("GPULeasesDown", "firing", {f'{PASS}{{pod="c-0"}}': "600+0x400"}, {"10m": (), "30m": (down("late"),)}),
    Case(
        "GPULeasesDown",
        "duplicate series",
        {f'{PASS}{{pod="c-0"}}': "0+15x400", f'{PASS}{{pod="c-1"}}': steady(0)},
        {"30m": ()},
    ),
    Case("GPULeasesDown", "absent series", {}, {"30m": (down("absent"),)}),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_alert_fires_exactly_when_it_should(case: Case, promtool: Program, tmp_path: Path) -> None:
    verdict = run_case(promtool, case, rules(), tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize("case", [case for case in CASES if case.kind in ("firing", "silent")], ids=str)
def test_the_check_itself_sees_the_opposite(case: Case, promtool: Program, tmp_path: Path) -> None:
    """Negative control: with nothing expected a firing case fails, with something expected a silent one does."""
    wrong = (Firing({}, "", ""),) if case.kind == "silent" else ()
    at = {time: wrong for time, firing in case.at.items() if firing or case.kind == "silent"}
    opposite = Case(case.alert, case.kind, case.series, at)
    assert run_case(promtool, opposite, rules(), tmp_path).returncode != 0


def test_every_alert_has_a_case_of_every_kind_and_a_page() -> None:
    for name in NAMES:
        assert {case.kind for case in CASES if case.alert == name} >= set(KINDS)
        page = (PROJECT / "docs/runbooks" / f"{name}.md").read_text()
        for heading in ("Meaning", "First look", "Likely causes", "What to do", "Silencing"):
            assert f"## {heading}" in page


def test_an_estate_without_leases_has_none_of_them() -> None:
    estate = shipped(PROJECT / "estates/rtx2060super.yaml")
    without = Rules(estate, watchdog_settings(estate))
    assert not {alert.name for alert in monitoring_alerts(estate, without.settings, without.monitoring)} & set(NAMES)


def test_promtool_finds_no_fault_in_the_rules(promtool: Program, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rules().text())
    verdict = promtool_run(promtool, "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", folder=tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_every_series_of_the_alerts_is_one_that_leases_write_from_the_start() -> None:
    registry = prometheus_client.CollectorRegistry()
    PrometheusLeaseMetrics(registry, [("trainer", "day")])
    text = prometheus_client.generate_latest(registry).decode()
    assert 'gpumem_lease_overdue_seconds{cause="held",lane="day",tenant="trainer"} 0.0' in text
    assert f"{PASS} 0.0" in text
