"""Cases of the alerts about tenants and about the node's number."""

from __future__ import annotations

from tests.rules.card_cases import mib, steady
from tests.rules.promtool import Case, Firing

POD = 'namespace="immich", pod="immich-ml-5d9c-abcde"'
POD_LABELS = {"namespace": "immich", "pod": "immich-ml-5d9c-abcde"}
NAME = "immich/immich-ml-5d9c-abcde"


def used(gpu: int = 0, instance: str = "10.0.0.1:9400", container: str = "main") -> str:
    return (
        f'gpu_pod_memory_used_bytes{{{POD}, container="{container}", gpu="{gpu}", uuid="GPU-{gpu}", '
        f'node="n1", instance="{instance}"}}'
    )


def budget(instance: str = "10.0.0.1:9400", container: str = "main") -> str:
    return f'gpumem_tenant_budget_bytes{{{POD}, container="{container}", node="n1", instance="{instance}"}}'


# --- GPUTenantOverBudget

OVER = Firing(
    POD_LABELS,
    f"{NAME} uses more GPU memory than its budget.",
    "It is 500 MiB over; once a card of it is under pressure, the largest overshoot there is recycled.",
)
OVER_BUDGET = (
    Case("GPUTenantOverBudget", "silent", {used(): mib(3000), budget(): mib(3000)}, {"30m": ()}),
    Case("GPUTenantOverBudget", "firing", {used(): mib(3500), budget(): mib(3000)}, {"4m": (), "30m": (OVER,)}),
    Case(
        "GPUTenantOverBudget",
        "duplicate series",
        {
            used(): mib(3500),
            used(instance="10.0.0.2:9400"): mib(3400),
            budget(): mib(3000),
            budget(instance="10.0.0.2:9400"): mib(3000),
        },
        {"30m": (OVER,)},
    ),
    # Neither half alone says anything: a pod without a budget is not over one, unknown use is not zero.
    Case("GPUTenantOverBudget", "absent series", {used(): mib(3500)}, {"30m": ()}),
    Case("GPUTenantOverBudget", "absent use", {budget(): mib(3000)}, {"30m": ()}),
    Case(
        "GPUTenantOverBudget",
        "two cards and two containers count together",
        {
            used(0): mib(1500),
            used(1): mib(1500),
            used(1, container="side"): mib(500),
            budget(): mib(2000),
            budget(container="side"): mib(1000),
        },
        {"30m": (OVER,)},
    ),
)

# --- GPUTenantPendingOnMemory


def asks(pod: str, mib_asked: int, instance: str = "ksm-0", resource: str = "viktorbarzin_me_gpumem") -> dict[str, str]:
    series = (
        f'kube_pod_container_resource_limits{{{pod}, container="main", resource="{resource}", '
        f'unit="integer", instance="{instance}"}}'
    )
    return {series: steady(mib_asked)}


def unplaced(pod: str, instance: str = "ksm-0") -> dict[str, str]:
    return {f'kube_pod_status_unschedulable{{{pod}, uid="u1", instance="{instance}"}}': steady(1)}


WAITS = Firing(
    POD_LABELS,
    f"{NAME} finds no GPU memory.",
    "It asks for 3000 of viktorbarzin.me/gpumem, and no node has that much left to promise.",
)
PENDING = (
    Case("GPUTenantPendingOnMemory", "silent", asks(POD, 3000), {"30m": ()}),
    Case(
        "GPUTenantPendingOnMemory",
        "firing",
        {**asks(POD, 3000), **unplaced(POD)},
        {"4m": (), "30m": (WAITS,)},
    ),
    Case(
        "GPUTenantPendingOnMemory",
        "duplicate series",
        {**asks(POD, 3000), **asks(POD, 3000, "ksm-1"), **unplaced(POD), **unplaced(POD, "ksm-1")},
        {"30m": (WAITS,)},
    ),
    Case("GPUTenantPendingOnMemory", "absent series", unplaced(POD), {"30m": ()}),
    Case(
        "GPUTenantPendingOnMemory",
        "a pod that waits for something else",
        {**asks(POD, 1, resource="nvidia_com_gpu"), **unplaced(POD)},
        {"30m": ()},
    ),
)

# --- GPUCapacityMissing

NODE = "n1"
EXPORTED = {f'gpu_telemetry_up{{node="{NODE}", instance="10.0.0.1:9400"}}': steady(1)}
WATCH_WELL = {'gpumem_capacity_last_success_timestamp_seconds{instance="10.0.0.3:9410"}': "0+15x400"}
NOT_KEPT = "every tenant there stays Pending or is refused."


def allocatable(resource: str, value: int, instance: str = "ksm-0") -> dict[str, str]:
    series = (
        f'kube_node_status_allocatable{{node="{NODE}", resource="{resource}", unit="integer", instance="{instance}"}}'
    )
    return {series: steady(value)}


def advertised(instance: str = "10.0.0.3:9410") -> dict[str, str]:
    return {f'gpumem_capacity_advertised_bytes{{node="{NODE}", instance="{instance}"}}': mib(14000)}


def not_kept(cause: str, **labels: str) -> Firing:
    where = f" on node {labels['node']}" if "node" in labels else ""
    return Firing(
        {**labels, "cause": cause},
        f"The number of GPU memory is not kept{where}.",
        f"Cause {cause}: where a node does not show viktorbarzin.me/gpumem, {NOT_KEPT}",
    )


NOT_ADVERTISED = not_kept("not_advertised", node=NODE)
CAPACITY = (
    Case(
        "GPUCapacityMissing",
        "silent",
        {**EXPORTED, **WATCH_WELL, **allocatable("nvidia_com_gpu", 8), **allocatable("viktorbarzin_me_gpumem", 14000)},
        {"30m": ()},
    ),
    Case(
        "GPUCapacityMissing",
        "firing",
        {**EXPORTED, **WATCH_WELL, **allocatable("nvidia_com_gpu", 8)},
        {"1m": (), "30m": (NOT_ADVERTISED,)},
    ),
    Case(
        "GPUCapacityMissing",
        "duplicate series",
        {
            **EXPORTED,
            f'gpu_telemetry_up{{node="{NODE}", instance="10.0.0.2:9400"}}': steady(1),
            **WATCH_WELL,
            **allocatable("viktorbarzin_me_gpumem", 0),
            **allocatable("viktorbarzin_me_gpumem", 0, "ksm-1"),
        },
        {"30m": (NOT_ADVERTISED,)},
    ),
    Case("GPUCapacityMissing", "absent series", {}, {"30m": (not_kept("watch_absent"),)}),
    Case(
        "GPUCapacityMissing",
        "without any source for the number no node is blamed",
        EXPORTED,
        {"30m": (not_kept("watch_absent"),)},
    ),
    Case(
        "GPUCapacityMissing",
        "without kube-state-metrics the capacity watch is believed",
        {**EXPORTED, **WATCH_WELL, **advertised(), **advertised("10.0.0.4:9410")},
        {"30m": ()},
    ),
    Case(
        "GPUCapacityMissing",
        "without kube-state-metrics the capacity watch is missed",
        {**EXPORTED, **WATCH_WELL},
        {"30m": (NOT_ADVERTISED,)},
    ),
    Case(
        "GPUCapacityMissing",
        "a watch whose checks fail",
        {**EXPORTED, **advertised(), 'gpumem_capacity_last_success_timestamp_seconds{instance="a"}': "60+0x400"},
        {"10m": (), "30m": (not_kept("watch_fails"),)},
    ),
)

TENANT_CASES = (*OVER_BUDGET, *PENDING, *CAPACITY)
