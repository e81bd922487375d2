"""May dry run be turned off? From data, tenant by tenant; field fault 7."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import yaml

from helpers.domain.watchdog.arming import ArmingReport, judge_arming
from helpers.domain.watchdog.replay import ReplayReport, replay
from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.domain.watchdog.trace import Frame, Trace
from helpers.services.recommend import arm
from tests.cases.recycling.world import NOW, pod, rule, sample

CHOSEN = WatchdogSettings(
    floor_mib=1536,
    tenants=(rule("calm", budget_mib=4000), rule("tight", budget_mib=5000), rule("spiky", budget_mib=1000)),
)


def trace_of(*, days: float = 8, tight_mib: int = 4500, spike: bool = False, failed: float = 0.0) -> Trace:
    pods = (pod("ns/calm", budget_mib=4000), pod("ns/tight", budget_mib=5000), pod("ns/spiky"))
    looks = round(days * 24 * 12)
    frames = []
    for index in range(looks):
        at = NOW + timedelta(minutes=5 * index)
        spiky_mib = 8000 if spike and index == 500 else 900
        used = {"ns/calm": 1000, "ns/tight": tight_mib, "ns/spiky": spiky_mib}
        card = sample(used, free_mib=15_000 - sum(used.values()), sampled_at=at, ok=index >= looks * failed)
        frames.append(Frame(at, (card,), pods))
    return tuple(frames)


def verdicts(report: ArmingReport) -> dict[str, bool]:
    return {tenant.tenant: tenant.may for tenant in report.tenants}


def test_a_quiet_week_with_fitting_budgets_may_be_armed() -> None:
    report = arm(CHOSEN, trace_of())
    assert report.may
    assert report.observed_days == pytest.approx(8)
    assert report.estate_change() == "watchdog:\n  dry_run: false\n"


def test_too_few_days_are_no_data() -> None:
    report = arm(CHOSEN, trace_of(days=3))
    assert not report.may
    assert report.reasons == ("3.0 days were seen, and arming needs 7",)
    assert report.estate_change() == ""


def test_telemetry_that_failed_too_often_is_no_data() -> None:
    report = arm(CHOSEN, trace_of(failed=0.1))
    assert not report.may
    assert report.reasons == ("10% of the time no sample could be believed; at most 5% may be so",)


def test_a_budget_below_its_measured_need_keeps_that_tenant_in_dry_run_field_fault_6() -> None:
    report = arm(CHOSEN, trace_of(tight_mib=6996))
    assert verdicts(report) == {"calm": True, "tight": False, "spiky": True}
    assert [tenant.tenant for tenant in report.below_need] == ["tight"]
    change = report.estate_change()
    assert "its budget of 5000 is below its measured p99 of 6996 MiB" in change
    assert yaml.safe_load(change) == {
        "watchdog": {"dry_run": False},
        "tenants": [{"name": "tight", "watchdog": {"dry_run": True}}],
    }


def test_a_false_would_be_recycle_keeps_its_tenant_in_dry_run_and_is_shown_with_its_evidence() -> None:
    report = arm(CHOSEN, _finer(trace_of(spike=True)))
    assert verdicts(report)["spiky"] is False
    assert len(report.would_be) == 1
    assert report.would_be[0].needed is False
    assert "are free 60 s later" in report.would_be[0].evidence


def _finer(trace: Trace) -> Trace:
    """One more look a minute after the spike, at which it is gone."""
    spike, after = trace[500], trace[501]
    at = spike.at + timedelta(minutes=1)
    extra = Frame(at, tuple(replace(card, sampled_at=at) for card in after.samples), after.pods)
    return (*trace[:501], extra, *trace[501:])


def test_a_tenant_that_was_never_seen_is_unknown_and_stays_in_dry_run() -> None:
    chosen = CHOSEN.model_copy(update={"tenants": (*CHOSEN.tenants, rule("absent"))})
    report = arm(chosen, trace_of())
    assert verdicts(report)["absent"] is False
    assert "never seen to run" in report.tenants[-1].reasons[0]


def test_where_no_tenant_may_be_armed_the_watchdog_may_not() -> None:
    chosen = CHOSEN.model_copy(update={"tenants": (rule("absent"),)})
    assert not arm(chosen, trace_of()).may


def test_a_replay_of_another_floor_says_nothing_here() -> None:
    other: ReplayReport = replay(trace_of(days=0.1), CHOSEN.model_copy(update={"floor_mib": 99}))
    with pytest.raises(ValueError, match="the replay had floor 99"):
        judge_arming(CHOSEN, other, ())
