"""Cases of the alerts about lanes and their coordinator, on the estate that has lanes."""

from __future__ import annotations

from helpers.domain.watchdog.settings import watchdog_settings
from tests.rules.card_cases import steady
from tests.rules.promtool import Case, Firing, Rules
from tests.synth.estates import PROJECT, shipped

PASS = "gpumem_coordinator_last_pass_timestamp_seconds"


def coordinator_rules() -> Rules:
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


COORDINATOR_CASES = (
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
