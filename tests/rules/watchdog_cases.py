"""Cases of the alerts about the watchdog."""

from __future__ import annotations

from tests.rules.card_cases import steady
from tests.rules.promtool import Case, Firing

# --- GPUVRAMWatchdogDown

LAST = "gpumem_watchdog_last_pass_timestamp_seconds"


def unwatched(cause: str) -> Firing:
    return Firing(
        {"cause": cause},
        "No watchdog looks after the GPUs' memory.",
        f"Cause {cause}: no pass was finished within 60 s, "
        "so a tenant that grows over its budget is stopped by nobody.",
    )


LEADS = {'gpumem_watchdog_leader{pod="w-0"}': steady(1), 'gpumem_watchdog_leader{pod="w-1"}': steady(0)}
WATCHDOG_DOWN = (
    Case("GPUVRAMWatchdogDown", "silent", {f'{LAST}{{pod="w-0"}}': "0+15x400", **LEADS}, {"30m": ()}),
    Case(
        "GPUVRAMWatchdogDown",
        "firing",
        {f'{LAST}{{pod="w-0"}}': "600+0x400", **LEADS},
        {"10m": (), "30m": (unwatched("late"),)},
    ),
    Case(
        "GPUVRAMWatchdogDown",
        "duplicate series",
        {f'{LAST}{{pod="w-0"}}': "600+0x400", f'{LAST}{{pod="w-1"}}': "300+0x400", **LEADS},
        {"30m": (unwatched("late"),)},
    ),
    Case("GPUVRAMWatchdogDown", "absent series", {}, {"30m": (unwatched("absent"),)}),
    Case(
        "GPUVRAMWatchdogDown",
        "a standby that never passed beside a leader that does",
        {f'{LAST}{{pod="w-0"}}': "0+15x400", f'{LAST}{{pod="w-1"}}': steady(0), **LEADS},
        {"30m": ()},
    ),
    Case(
        "GPUVRAMWatchdogDown",
        "nobody leads",
        {f'{LAST}{{pod="w-0"}}': "0+15x400", 'gpumem_watchdog_leader{pod="w-0"}': steady(0)},
        {"30m": (unwatched("no_leader"),)},
    ),
    Case(
        "GPUVRAMWatchdogDown",
        "a pass from the future after a clock was set back",
        {f'{LAST}{{pod="w-0"}}': "9000+0x400", **LEADS},
        {"30m": (unwatched("late"),)},
    ),
)

# --- GPUWatchdogRecyclingRepeatedly


def recycles(outcome: str, pod: str = "w-0", job: str = "gpumem-watchdog", tenant: str = "immich-ml") -> str:
    return (
        f'gpumem_watchdog_recycles_total{{tenant="{tenant}", outcome="{outcome}", '
        f'instance="{pod}:9412", pod="{pod}", job="{job}"}}'
    )


def again(times: int) -> Firing:
    return Firing(
        {"tenant": "immich-ml"},
        "Tenant immich-ml is recycled again and again.",
        f"{times} times within an hour; at 3 the watchdog stops. Its budget is too small, or it leaks.",
    )


TWICE_FROM_BIRTH = "_x40 1+0x40 2+0x400"
REPEATEDLY = (
    Case("GPUWatchdogRecyclingRepeatedly", "silent", {recycles("evicted"): "0+0x40 1+0x400"}, {"30m": ()}),
    Case(
        "GPUWatchdogRecyclingRepeatedly",
        "firing",
        {recycles("evicted"): TWICE_FROM_BIRTH},
        {"15m": (), "30m": (again(2),), "95m": ()},
    ),
    # Two scrapes of one watchdog are one count; two watchdogs, one after the other, are two.
    Case(
        "GPUWatchdogRecyclingRepeatedly",
        "duplicate series",
        {
            recycles("evicted"): "_x40 1+0x400",
            recycles("evicted", job="kubernetes-pods"): "_x40 1+0x400",
        },
        {"30m": ()},
    ),
    Case(
        "GPUWatchdogRecyclingRepeatedly",
        "one act of each of two leaders, by two ways out",
        {recycles("evicted", "w-0"): "_x40 1+0x40 stale", recycles("deleted", "w-1"): "_x80 1+0x400"},
        {"30m": (again(2),)},
    ),
    Case("GPUWatchdogRecyclingRepeatedly", "absent series", {}, {"30m": ()}),
    Case(
        "GPUWatchdogRecyclingRepeatedly",
        "what was not done does not count",
        {recycles("dry_run"): TWICE_FROM_BIRTH, recycles("abandoned"): TWICE_FROM_BIRTH},
        {"30m": ()},
    ),
)

# --- GPUWatchdogDisarmed

DRY = {'gpumem_watchdog_dry_run{tenant="immich-ml", pod="w-0"}': steady(1)}
ONLY_WATCHED = Firing(
    {"tenant": "immich-ml"},
    "The watchdog only watched as tenant immich-ml took memory from others.",
    "It would have been recycled 1 times in a day; `gpumem arm` shows the evidence and the change to make.",
)
DISARMED = (
    Case("GPUWatchdogDisarmed", "silent", {**DRY, recycles("dry_run"): steady(0)}, {"30m": ()}),
    Case("GPUWatchdogDisarmed", "firing", {**DRY, recycles("dry_run"): "_x40 1+0x400"}, {"30m": (ONLY_WATCHED,)}),
    Case(
        "GPUWatchdogDisarmed",
        "duplicate series",
        {
            **DRY,
            'gpumem_watchdog_dry_run{tenant="immich-ml", pod="w-1"}': steady(1),
            recycles("dry_run"): "_x40 1+0x400",
            recycles("dry_run", job="kubernetes-pods"): "_x40 1+0x400",
        },
        {"30m": (ONLY_WATCHED,)},
    ),
    Case("GPUWatchdogDisarmed", "absent series", DRY, {"30m": ()}),
    Case(
        "GPUWatchdogDisarmed",
        "armed meanwhile",
        {'gpumem_watchdog_dry_run{tenant="immich-ml", pod="w-0"}': steady(0), recycles("dry_run"): "_x40 1+0x400"},
        {"30m": ()},
    ),
)

WATCHDOG_CASES = (*WATCHDOG_DOWN, *REPEATEDLY, *DISARMED)
