"""The alerts about lanes and their coordinator, under the real promtool, on the estate that has lanes."""

from __future__ import annotations

from pathlib import Path

import prometheus_client
import pytest

from helpers.adapters.coordinator_metrics import PrometheusCoordinatorMetrics
from helpers.domain.watchdog.settings import watchdog_settings
from helpers.rendering.monitoring_alerts import monitoring_alerts
from lab.programs import Program
from tests.rules.card_cases import steady
from tests.rules.promtool import KINDS, Case, Firing, Rules, promtool_run, run_case
from tests.synth.estates import PROJECT, shipped

NAMES = ("GPULanePausedTooLong", "GPUFallbackActive", "GPUCoordinatorDown")
PASS = "gpumem_coordinator_last_pass_timestamp_seconds"


def rules() -> Rules:
    estate = shipped(PROJECT / "estates/rtx2060super.yaml")
    return Rules(estate, watchdog_settings(estate))


def paused(pod: str = "c-0") -> str:
    return f'gpumem_coordinator_lane_paused_seconds{{lane="batch", pod="{pod}"}}'


def away(pod: str = "c-0") -> str:
    return f'gpumem_coordinator_fallback_active{{tenant="ollama", pod="{pod}"}}'


def waits(text: str) -> Firing:
    return Firing(
        {"lane": "batch"},
        f"Jobs of lane batch have waited for {text}.",
        "Its queues are paused for longer than any window or realtime work should take.",
    )


AWAY = Firing(
    {"tenant": "ollama"},
    "The card or the server of tenant ollama does not answer.",
    "Realtime callers are told that the service is temporarily unavailable, and batch jobs wait.",
)


def uncoordinated(cause: str) -> Firing:
    return Firing(
        {"cause": cause},
        "Nobody coordinates the job queues in front of the cards.",
        f"Cause {cause}: no look at the queues was finished within 60 s. "
        "What is paused stays paused, and batch no longer waits for realtime.",
    )


CASES = (
    Case("GPULanePausedTooLong", "silent", {paused(): steady(32_400)}, {"30m": ()}),
    Case("GPULanePausedTooLong", "firing", {paused(): "43100+15x400"}, {"1m": (), "5m": (waits("12h 3m 20s"),)}),
    Case(
        "GPULanePausedTooLong",
        "duplicate series",
        {paused(): steady(50_000), paused("c-1"): steady(0)},
        {"5m": (waits("13h 53m 20s"),)},
    ),
    Case("GPULanePausedTooLong", "absent series", {}, {"30m": ()}),
    Case("GPUFallbackActive", "silent", {away(): steady(0)}, {"30m": ()}),
    Case("GPUFallbackActive", "firing", {away(): "0+0x8 1+0x400"}, {"2m30s": (), "10m": (AWAY,)}),
    Case("GPUFallbackActive", "duplicate series", {away(): steady(1), away("c-1"): steady(1)}, {"10m": (AWAY,)}),
    Case("GPUFallbackActive", "absent series", {}, {"30m": ()}),
    Case("GPUFallbackActive", "a short silence", {away(): "1+0x2 0+0x400"}, {"30s": (), "2m": (), "10m": ()}),
    Case("GPUCoordinatorDown", "silent", {f'{PASS}{{pod="c-0"}}': "0+15x400"}, {"30m": ()}),
    Case(
        "GPUCoordinatorDown",
        "firing",
        {f'{PASS}{{pod="c-0"}}': "600+0x400"},
        {"10m": (), "30m": (uncoordinated("late"),)},
    ),
    Case(
        "GPUCoordinatorDown",
        "duplicate series",
        {f'{PASS}{{pod="c-0"}}': "0+15x400", f'{PASS}{{pod="c-1"}}': steady(0)},
        {"30m": ()},
    ),
    Case("GPUCoordinatorDown", "absent series", {}, {"30m": (uncoordinated("absent"),)}),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_alert_fires_exactly_when_it_should(case: Case, promtool: Program, tmp_path: Path) -> None:
    verdict = run_case(promtool, case, rules(), tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize("case", [case for case in CASES if case.kind in ("firing", "silent")], ids=str)
def test_the_check_itself_sees_the_opposite(case: Case, promtool: Program, tmp_path: Path) -> None:
    """Negative control: with nothing expected a firing case fails, with something expected a silent one does."""
    assert run_case(promtool, case.opposite(), rules(), tmp_path).returncode != 0


def test_every_alert_has_a_case_of_every_kind() -> None:
    for name in NAMES:
        assert {case.kind for case in CASES if case.alert == name} >= set(KINDS)


def test_an_estate_without_a_coordinator_has_none_of_them() -> None:
    example = Rules.of_example()
    found = {alert.name for alert in monitoring_alerts(example.estate, example.settings, example.monitoring)}
    assert not found & set(NAMES)


def test_promtool_finds_no_fault_in_the_rules(promtool: Program, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rules().text())
    verdict = promtool_run(promtool, "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", folder=tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_every_series_of_the_alerts_is_one_that_the_coordinator_writes() -> None:
    registry = prometheus_client.CollectorRegistry()
    PrometheusCoordinatorMetrics(registry, ["batch"], ["ollama"])
    text = prometheus_client.generate_latest(registry).decode()
    for name in (paused(), away(), PASS):
        assert name.partition("{")[0] in text
