"""Whether a tenant works, and whether it works worse than before. Pure: answers in, words out."""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict

from helpers.domain.estate.tenants import Tenant


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProbeResult(_Value):
    """One probe on one pod. `failure` is the first one's text, empty where none failed."""

    probe: str
    tries_count: int
    failed_count: int
    slowest_seconds: float
    failure: str = ""


class PodHealth(_Value):
    """One pod. `used_mib` None: unknown, and `used_unknown` says why."""

    pod: str
    probes: tuple[ProbeResult, ...] = ()
    used_mib: int | None = None
    used_unknown: str = ""


class TenantHealth(_Value):
    """All that was found at one time; kept as JSON between before and after."""

    tenant: str
    observed_at: AwareDatetime
    wanted_pods_count: int
    budget_mib: int
    pods: tuple[PodHealth, ...]

    def probes(self) -> dict[str, tuple[ProbeResult, ...]]:
        """`{probe: its results over the pods}`."""
        found: dict[str, tuple[ProbeResult, ...]] = {}
        for pod in self.pods:
            for result in pod.probes:
                found[result.probe] = (*found.get(result.probe, ()), result)
        return found

    def error_ratios(self) -> dict[str, float]:
        """`{probe: share of answers that failed}`."""
        return {
            name: sum(one.failed_count for one in results) / sum(one.tries_count for one in results)
            for name, results in self.probes().items()
        }

    @property
    def headroom_mib(self) -> int | None:
        """What is left of the budget of the pod that uses most; None where that is unknown."""
        used = [pod.used_mib for pod in self.pods]
        known = [mib for mib in used if mib is not None]
        return self.budget_mib - max(known) if known and len(known) == len(used) else None


def problems(health: TenantHealth, tenant: Tenant) -> dict[str, str]:
    """What is not as the estate wants it, `{what: in words}`; empty where all is well."""
    found = {}
    if len(health.pods) < health.wanted_pods_count:
        found["pods"] = f"{len(health.pods)} of {health.wanted_pods_count} pods run"
    asked = tenant.health
    if asked is None:
        return found
    for name, ratio in health.error_ratios().items():
        if ratio > asked.max_error_ratio:
            first = next(one.failure for one in health.probes()[name] if one.failure)
            found[f"probe {name}"] = f"{ratio:.0%} of answers failed ({asked.max_error_ratio:.0%} may): {first}"
    if asked.min_headroom_mib is not None and health.pods:
        left_mib = health.headroom_mib
        if left_mib is None:
            why = next((pod.used_unknown for pod in health.pods if pod.used_mib is None), "")
            found["headroom"] = f"unknown: {why}"
        elif left_mib < asked.min_headroom_mib:
            found["headroom"] = f"{left_mib} MiB are left of the budget, {asked.min_headroom_mib} must be"
    return found


def regressions(before: TenantHealth, after: TenantHealth, tenant: Tenant) -> tuple[str, ...]:
    """What is worse than before and not as the estate wants it. What was bad and stays so is no regression."""
    was, now = problems(before, tenant), problems(after, tenant)
    found = [f"{what}: {text}" for what, text in now.items() if what not in was]
    ratios = before.error_ratios()
    for name, ratio in after.error_ratios().items():
        if f"probe {name}" in was and f"probe {name}" in now and ratio > ratios.get(name, 0.0):
            found.append(f"probe {name}: {ratio:.0%} of answers failed, {ratios.get(name, 0.0):.0%} before")
    if "pods" in was and "pods" in now and len(after.pods) < len(before.pods):
        found.append(f"pods: {len(after.pods)} run, {len(before.pods)} before")
    return tuple(found)
