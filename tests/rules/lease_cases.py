"""Cases of the alerts about leases, on the estate that has lanes."""

from __future__ import annotations

from helpers.domain.estate.leases import Leases, LeaseTenant
from helpers.domain.watchdog.settings import watchdog_settings
from tests.rules.card_cases import steady
from tests.rules.promtool import Case, Firing, Rules
from tests.synth.estates import PROJECT, shipped

PASS = "gpumem_lease_last_pass_timestamp_seconds"


def lease_rules() -> Rules:
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


LEASE_CASES = (
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
