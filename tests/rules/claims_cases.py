"""Cases of alerts on estates whose budgets are claims: about the agents, and what the number's alerts say there."""

from __future__ import annotations

from helpers.domain.watchdog.settings import watchdog_settings
from tests.rules.card_cases import steady
from tests.rules.promtool import Case, Firing, Rules
from tests.rules.tenant_cases import NOT_ADVERTISED, WATCH_WELL, allocatable, unplaced
from tests.synth.estates import on_both_backends, on_claims

NAME = "GPUClaimsAgentDown"


def claims_rules() -> Rules:
    estate = on_claims()
    return Rules(estate, watchdog_settings(estate))


def both_backends_rules() -> Rules:
    estate = on_both_backends()
    return Rules(estate, watchdog_settings(estate))


def of_agent(metric: str, node: str = "n1", pod: str = "a-0", more: str = "") -> str:
    return f'{metric}{{node="{node}", instance="{pod}:9417", job="gpumem-dra-agent"{more}}}'


def devices(node: str = "n1", pod: str = "a-0") -> str:
    return of_agent("gpumem_dra_published_devices", node, pod)


def registered(node: str = "n1", pod: str = "a-0") -> str:
    return of_agent("gpumem_dra_kubelet_registered", node, pod)


def errors(what: str, node: str = "n1", pod: str = "a-0") -> str:
    return of_agent("gpumem_dra_errors_total", node, pod, f', what="{what}"')


def scraped(node: str = "n1", pod: str = "a-0") -> str:
    return of_agent("up", node, pod)


def exported(node: str = "n1") -> str:
    return f'gpu_telemetry_up{{node="{node}", instance="{node}:9400", job="gpumem-exporter"}}'


def well(node: str = "n1", pod: str = "a-0") -> dict[str, str]:
    values = {devices(node, pod): 2, registered(node, pod): 1, scraped(node, pod): 1, exported(node): 1}
    stands_back = {of_agent("gpumem_dra_standing_back", node, pod): steady(0)}
    return {series: steady(value) for series, value in values.items()} | stands_back


def down(cause: str, node: str = "") -> Firing:
    return Firing(
        {"cause": cause, **({"node": node} if node else {})},
        f"Claims on a card's memory are not served{f' on node {node}' if node else ''}.",
        f"Cause {cause}. What runs there goes on; pods that wait for memory of a card there "
        "find none, or are not started.",
    )


AGENT = (
    Case(NAME, "silent", {**well(), **well("n2", "a-1")}, {"30m": ()}),
    Case(
        NAME,
        "firing",
        {**well(), **well("n2", "a-1"), registered("n2", "a-1"): "1+0x19 0+0x400"},
        {"9m": (), "30m": (down("not_registered", "n2"),)},
    ),
    Case(
        NAME,
        "duplicate series",
        {
            **well(),
            devices(): steady(0),
            of_agent("gpumem_dra_published_devices", more=', endpoint="again"'): steady(0),
            of_agent("up", more=', endpoint="again"'): steady(1),
        },
        {"30m": (down("not_published", "n1"),)},
    ),
    Case(NAME, "absent series", {}, {"4m": (), "30m": (down("absent"),)}),
    Case(
        NAME,
        "an agent that crashes again and again",
        {exported(): steady(1), scraped(): steady(0)},
        {"30m": (down("scrape_failed", "n1"),)},
    ),
    Case(
        NAME,
        "a node with an exporter and without an agent, beside one that has both",
        {**well(), exported("n2"): steady(1)},
        {"30m": (down("silent", "n2"),)},
    ),
    Case(
        NAME,
        "no agent anywhere is said of each node, and not once more of all",
        {exported("n1"): steady(1), exported("n2"): steady(1)},
        {"30m": (down("silent", "n1"), down("silent", "n2"))},
    ),
    Case(
        NAME,
        "where NVIDIA's driver publishes an agent rightly offers nothing",
        {**well(), devices(): steady(0), of_agent("gpumem_dra_standing_back"): steady(1)},
        {"30m": ()},
    ),
    Case(
        NAME,
        "the kubelet asks again and again in vain",
        {**well(), errors("prepare"): "0+0x19 0+1x400"},
        {"9m": (), "30m": (down("failing", "n1"),)},
    ),
    Case(
        NAME,
        "a counter that is born with the first error",
        {**well(), errors("prepare"): "_x40 1+1x400"},
        {"15m": (), "30m": (down("failing", "n1"),)},
    ),
    Case(NAME, "one error is mended by the next try", {**well(), errors("publish"): "0+0x19 1+0x400"}, {"30m": ()}),
    Case(NAME, "a card that cannot be read is told of elsewhere", {**well(), errors("look"): "0+1x400"}, {"30m": ()}),
    Case(
        NAME,
        "one agent after the other is replaced",
        {
            **{series: f"{value.partition('+')[0]}+0x20 stale" for series, value in well().items()},
            exported(): steady(1),
            **{series: f"_x24 {value}" for series, value in well(pod="a-9").items() if "exporter" not in series},
        },
        {"6m": (), "8m": (), "30m": ()},
    ),
)

COMFYUI = 'namespace="ai", pod="comfyui-7c9d8f6b5-x2k4q"'
ELASTIC = 'namespace="ai", pod="llm-apps-7c9d8f6b5-x2k4q"'
WAITS = Firing(
    {"namespace": "ai", "pod": "comfyui-7c9d8f6b5-x2k4q"},
    "ai/comfyui-7c9d8f6b5-x2k4q finds no GPU memory.",
    "It asks for 16000 MiB, and no card has that much left to promise.",
)
PENDING = (
    Case(
        "GPUTenantPendingOnMemory",
        "a pod whose claim no card has room for, and an elastic one that may wait",
        {**unplaced(COMFYUI), **unplaced(COMFYUI, "ksm-1"), **unplaced(ELASTIC)},
        {"4m": (), "30m": (WAITS,)},
    ),
)
CLAIMS_CASES = (*AGENT, *PENDING)

NUMBERED = {exported("n1"): steady(1), **WATCH_WELL, **allocatable("nvidia_com_gpu", 8)}
BOTH_BACKENDS_CASES = (
    Case(
        "GPUCapacityMissing",
        "a node whose budgets are claims needs no number, and one without an agent does",
        {**NUMBERED, **well("n2", "a-1")},
        {"30m": (NOT_ADVERTISED,)},
    ),
    Case(
        "GPUCapacityMissing",
        "an agent that crashes makes its node none of the number's",
        {exported("n2"): steady(1), scraped("n2", "a-1"): steady(0), **WATCH_WELL, **allocatable("nvidia_com_gpu", 8)},
        {"30m": ()},
    ),
    Case(NAME, "a node by the number needs no agent", {**NUMBERED, **well("n2", "a-1")}, {"30m": ()}),
)
