"""Cases of the alert about demand gates, on the estate of the guide."""

from __future__ import annotations

from helpers.domain.watchdog.settings import watchdog_settings
from tests.fakes.gates import guide_estate
from tests.rules.card_cases import steady
from tests.rules.promtool import Case, Firing, Rules

NAME = "GPUDemandGateUnsteady"


def gate_rules() -> Rules:
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

GATE_CASES = (
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
