"""Cases of the alerts about promises, through the recording rules that they read."""

from __future__ import annotations

from tests.rules.card_cases import steady
from tests.rules.promtool import Case, Firing

WAIT, TO_GPU = "gpumem_manager_wait_seconds", "gpumem_manager_time_to_gpu_seconds"


def histogram(name: str, least: str, most: str, fast: str, slow: str, *pods: str) -> dict[str, str]:
    """A job in each step that `fast` or `slow` grow by: within `least` seconds, or within `most`."""
    found = {}
    for pod in pods:
        for bound, values in ((least, fast), (most, slow), ("+Inf", slow)):
            found[f'{name}_bucket{{le="{bound}", instance="{pod}"}}'] = values
        found[f'{name}_count{{instance="{pod}"}}'] = slow
    return found


def recoveries(status: str, pod: str = "m-0") -> str:
    return f'gpumem_manager_recoveries_total{{project="vision", status="{status}", instance="{pod}"}}'


def cards(what: str, capacity: str, pod: str = "m-0") -> str:
    return f'gpumem_manager_{what}{{gpu="A100_80GB", capacity_type="{capacity}", instance="{pod}"}}'


def books(held: str, there: str, count: int, *pods: str) -> dict[str, str]:
    """Cards for 3 USD on demand and 1 on spot; `there` of them on spot nodes, `held` held."""
    found = {}
    for pod in pods:
        for what, capacity, values in (
            ("held_cards", "spot", held),
            ("held_cards", "on-demand", steady(0, count)),
            ("node_cards", "spot", there),
            ("node_cards", "on-demand", steady(0, count)),
            ("card_usd_per_hour", "spot", steady(1, count)),
            ("card_usd_per_hour", "on-demand", steady(3, count)),
        ):
            found[cards(what, capacity, pod)] = values
    return found


def waits(text: str) -> Firing:
    return Firing(
        {},
        f"GPU jobs wait for their turn for longer than was promised: 95 of 100 for up to {text}.",
        "Of those of the last day; 600 s were promised. `gpumem gpu queues` shows which pools are full.",
    )


def starts(text: str) -> Firing:
    return Firing(
        {},
        f"GPU jobs get their GPUs later after their turn than was promised: 95 of 100 within {text}.",
        "Of those of the last day; 300 s were promised. Their pods wait for a machine, or a machine for its drivers.",
    )


def lost(text: str) -> Firing:
    return Firing(
        {},
        f"Only {text} of the GPU jobs that lost their place completed.",
        "Of those that ended within seven days; 95% were promised.",
    )


def saved(text: str) -> Firing:
    return Firing(
        {},
        f"Autoscaled GPU machines cost {text} less than a fixed cluster would.",
        "Over up to 30 days, against as many cards as were held at the busiest instant, on demand, all the time; "
        "40% less was wanted. `gpumem gpu advice PROJECT` says what could be saved.",
    )


def held(spot: str, on_demand: str, *pods: str) -> dict[str, str]:
    return {
        cards("held_cards", capacity, pod): values
        for pod in pods
        for capacity, values in (("spot", spot), ("on-demand", on_demand))
    }


def spot_share(text: str) -> Firing:
    return Firing(
        {},
        f"Only {text} of the GPU time that jobs held was on spot.",
        "Over up to 30 days; 60% were wanted. `gpumem gpu advice PROJECT` says which work could move there.",
    )


MANY, NONE = "0+1x500", steady(0, 500)
BOOKED = 500

OBJECTIVE_CASES = (
    Case("GPUJobWaitObjectiveMissed", "silent", histogram(WAIT, "300", "600", MANY, MANY, "m-0"), {"1h": ()}),
    # All between 600 and 1800 s: the 95th of 100 is read as 600 + 0.95 x 1200.
    Case(
        "GPUJobWaitObjectiveMissed",
        "firing",
        histogram(WAIT, "600", "1800", NONE, MANY, "m-0"),
        {"5m": (), "1h": (waits("29m 0s"),)},
    ),
    Case(
        "GPUJobWaitObjectiveMissed",
        "duplicate series",
        histogram(WAIT, "600", "1800", NONE, MANY, "m-0", "m-1"),
        {"1h": (waits("29m 0s"),)},
    ),
    Case("GPUJobWaitObjectiveMissed", "absent series", {}, {"1h": ()}),
    Case(
        "GPUJobWaitObjectiveMissed",
        "a few jobs",
        histogram(WAIT, "600", "1800", NONE, "0x40 1+1x15 16x400", "m-0"),
        {"1h": ()},
    ),
    Case("GPUTimeToGPUObjectiveMissed", "silent", histogram(TO_GPU, "180", "300", MANY, MANY, "m-0"), {"1h": ()}),
    Case(
        "GPUTimeToGPUObjectiveMissed",
        "firing",
        histogram(TO_GPU, "300", "600", NONE, MANY, "m-0"),
        {"5m": (), "1h": (starts("9m 45s"),)},
    ),
    Case(
        "GPUTimeToGPUObjectiveMissed",
        "duplicate series",
        histogram(TO_GPU, "300", "600", NONE, MANY, "m-0", "m-1"),
        {"1h": (starts("9m 45s"),)},
    ),
    Case("GPUTimeToGPUObjectiveMissed", "absent series", {}, {"1h": ()}),
    Case(
        "GPURecoveryObjectiveMissed",
        "silent",
        {recoveries("completed"): "0+24x500", recoveries("failed"): MANY},
        {"1h": ()},
    ),
    Case(
        "GPURecoveryObjectiveMissed",
        "firing",
        {recoveries("completed"): "0+4x500", recoveries("failed"): MANY},
        {"5m": (), "1h": (lost("80%"),)},
    ),
    Case(
        "GPURecoveryObjectiveMissed",
        "duplicate series",
        {recoveries("completed", pod): "0+4x500" for pod in ("m-0", "m-1")}
        | {recoveries("failed", pod): MANY for pod in ("m-0", "m-1")},
        {"1h": (lost("80%"),)},
    ),
    Case("GPURecoveryObjectiveMissed", "absent series", {}, {"1h": ()}),
    Case(
        "GPURecoveryObjectiveMissed",
        "one that was lost",
        {recoveries("completed"): NONE, recoveries("failed"): "0x100 1x400"},
        {"1h": ()},
    ),
    # 4 spot machines for 1 USD against 4 cards for 3 that stay: 67 % less.
    Case(
        "GPUSavingObjectiveMissed",
        "silent",
        books(steady(4, BOOKED), steady(4, BOOKED), BOOKED, "m-0"),
        {"2h": ()},
    ),
    # 9 of which 4 are held cost 9 against 12.
    Case(
        "GPUSavingObjectiveMissed",
        "firing",
        books(steady(4, BOOKED), steady(9, BOOKED), BOOKED, "m-0"),
        {"30m": (), "2h": (saved("25%"),)},
    ),
    Case(
        "GPUSavingObjectiveMissed",
        "duplicate series",
        books(steady(4, BOOKED), steady(9, BOOKED), BOOKED, "m-0", "m-1"),
        {"2h": (saved("25%"),)},
    ),
    Case("GPUSavingObjectiveMissed", "absent series", {}, {"2h": ()}),
    Case("GPUSpotShareObjectiveMissed", "silent", held(steady(6, BOOKED), steady(4, BOOKED), "m-0"), {"2h": ()}),
    Case(
        "GPUSpotShareObjectiveMissed",
        "firing",
        held(steady(1, BOOKED), steady(3, BOOKED), "m-0"),
        {"30m": (), "2h": (spot_share("25%"),)},
    ),
    Case(
        "GPUSpotShareObjectiveMissed",
        "duplicate series",
        held(steady(1, BOOKED), steady(3, BOOKED), "m-0", "m-1"),
        {"2h": (spot_share("25%"),)},
    ),
    Case("GPUSpotShareObjectiveMissed", "absent series", {}, {"2h": ()}),
    Case(
        "GPUSpotShareObjectiveMissed",
        "no job held a card",
        held(steady(0, BOOKED), steady(0, BOOKED), "m-0"),
        {"2h": ()},
    ),
)  # fmt: skip
