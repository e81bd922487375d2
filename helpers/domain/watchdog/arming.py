"""May the watchdog's dry run be turned off? Answered from what was seen, tenant by tenant.

The watchdog as a whole needs enough days with enough telemetry. A tenant may be armed when its need
was measured, its budget holds that need, and none of its would-be recycles was a false one; the
others stay in dry run by their own key. Unknown is a no.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from helpers.domain.watchdog.recommendation import Recommendation
from helpers.domain.watchdog.replay import ReplayedRecycle, ReplayReport
from helpers.domain.watchdog.settings import WatchdogSettings

LEAST_OBSERVED_DAYS = 7.0
MOST_UNKNOWN_RATIO = 0.05
_MINUTES_PER_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class TenantVerdict:
    """Whether one tenant may be armed; `reasons` say why not, and are empty where it may."""

    tenant: str
    budget_mib: int | None
    p99_mib: int | None
    suggested_mib: int | None
    would_be_count: int
    false_count: int
    reasons: tuple[str, ...]

    @property
    def may(self) -> bool:
        """Whether it may be armed."""
        return not self.reasons


@dataclass(frozen=True, slots=True)
class ArmingReport:
    """The whole answer. `observed_days` is per card, `unknown_ratio` the share of that without a believable sample.

    `reasons` are those of the watchdog as a whole; `would_be` is each recycle that an armed watchdog
    would have made, with its evidence.
    """

    observed_days: float
    unknown_ratio: float
    would_be: tuple[ReplayedRecycle, ...]
    tenants: tuple[TenantVerdict, ...]
    reasons: tuple[str, ...]

    @property
    def may(self) -> bool:
        """Whether dry run may be turned off, at least for some tenants."""
        return not self.reasons and any(tenant.may for tenant in self.tenants)

    @property
    def below_need(self) -> tuple[TenantVerdict, ...]:
        """Tenants whose budget is below what was measured: armed, they would be recycled for living."""
        return tuple(
            t for t in self.tenants if t.budget_mib is not None and t.p99_mib is not None and t.budget_mib < t.p99_mib
        )

    def estate_change(self) -> str:
        """The lines to put into gpumem.yaml; empty where nothing may be armed."""
        if not self.may:
            return ""
        lines = ["watchdog:", "  dry_run: false"]
        kept = [tenant for tenant in self.tenants if not tenant.may]
        if kept:
            lines.append("tenants:")
        for tenant in kept:
            lines += [f"  - name: {tenant.tenant}", f"    watchdog: {{dry_run: true}} # {tenant.reasons[0]}"]
        return "".join(f"{line}\n" for line in lines)


def judge_arming(
    settings: WatchdogSettings, report: ReplayReport, recommendations: Sequence[Recommendation]
) -> ArmingReport:
    """The answer, from the replay of what was recorded in dry run and from what tenants were seen to use.

    Args:
        settings: of the watchdog that is to be armed; `report` must be made with its floor and cool-down.
        report: `replay.replay` of the recorded trace.
        recommendations: one a tenant, of the same trace; a tenant without one was never seen.

    Raises:
        ValueError: the report was made with another floor or cool-down, so it says nothing here.
    """
    if (report.floor_mib, report.cooldown_seconds) != (settings.floor_mib, settings.cooldown_seconds):
        msg = f"the replay had floor {report.floor_mib}, cool-down {report.cooldown_seconds}; the settings have others"
        raise ValueError(msg)
    minutes = report.seen_minutes + report.unknown_minutes
    observed_days = minutes / max(1, report.cards_count) / _MINUTES_PER_DAY
    unknown_ratio = report.unknown_minutes / minutes if minutes else 1.0
    measured = {item.tenant: item for item in recommendations}
    tenants = tuple(_judge_tenant(rule.name, rule.budget_mib, measured, report.recycles) for rule in settings.tenants)
    return ArmingReport(
        observed_days=observed_days,
        unknown_ratio=unknown_ratio,
        would_be=report.recycles,
        tenants=tenants,
        reasons=tuple(_reasons(observed_days, unknown_ratio)),
    )


def _reasons(observed_days: float, unknown_ratio: float) -> list[str]:
    reasons = []
    if observed_days < LEAST_OBSERVED_DAYS:
        reasons.append(f"{observed_days:.1f} days were seen, and arming needs {LEAST_OBSERVED_DAYS:.0f}")
    if unknown_ratio > MOST_UNKNOWN_RATIO:
        reasons.append(
            f"{unknown_ratio:.0%} of the time no sample could be believed; at most {MOST_UNKNOWN_RATIO:.0%} may be so"
        )
    return reasons


def _judge_tenant(
    tenant: str, budget_mib: int | None, measured: Mapping[str, Recommendation], recycles: Sequence[ReplayedRecycle]
) -> TenantVerdict:
    seen = measured.get(tenant)
    mine = [recycle for recycle in recycles if recycle.decision.victim.tenant == tenant]
    false_count = sum(recycle.needed is False for recycle in mine)
    p99_mib = seen.p99_mib if seen else None
    reasons = []
    if seen is None or seen.p99_mib is None:
        reasons.append("it was never seen to run, so its need is unknown")
    elif seen.suggested_mib is None and seen.growth.mib_per_day is None:
        reasons.append(f"its need is not known well enough: {'; '.join(seen.reasons)}")
    elif budget_mib is None:
        reasons.append("its budget is not known here")
    elif seen.suggested_mib is not None and budget_mib < seen.p99_mib:
        # A leak is the very thing to recycle; its p99 is no need.
        reasons.append(f"its budget of {budget_mib} is below its measured p99 of {p99_mib} MiB")
    if false_count:
        reasons.append(f"{false_count} of its {len(mine)} would-be recycles were not needed")
    suggested_mib = seen.suggested_mib if seen else None
    return TenantVerdict(tenant, budget_mib, p99_mib, suggested_mib, len(mine), false_count, tuple(reasons))
