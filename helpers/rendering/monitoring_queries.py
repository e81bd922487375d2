"""PromQL that alerts and dashboard share, and the names of the series in it.

Every query first reduces to one series a subject (a card, a container, a node): a card that is
scraped twice, or by an old and a new exporter pod for a moment, must neither count twice nor break
a join. Amounts are MiB, as in the estate.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from helpers.domain.estate.model import Estate
from helpers.domain.estate.monitoring import JOB_DRA_AGENT
from helpers.domain.estate.tenants import Tenant
from helpers.domain.telemetry import metric_names

POD_USED = metric_names.POD_USED
BUDGET = metric_names.TENANT_BUDGET
FREE = metric_names.FREE
TOTAL = metric_names.TOTAL
USED = metric_names.USED
UNATTRIBUTED = metric_names.UNATTRIBUTED
TEMPERATURE = metric_names.TEMPERATURE
CARD_UP = metric_names.SAMPLE_UP
SAMPLE_TIMESTAMP = metric_names.SAMPLE_TIMESTAMP
XID_EVENTS = metric_names.XID_EVENTS
ATTRIBUTION_UP = metric_names.ATTRIBUTION_UP
# As `helpers.domain.telemetry.metrics` writes it; a test holds every name here against its output.
TELEMETRY_UP = "gpu_telemetry_up"
# As `helpers.adapters.metrics` writes them for the capacity watch.
ADVERTISED = "gpumem_capacity_advertised_bytes"
CAPACITY_SUCCESS = "gpumem_capacity_last_success_timestamp_seconds"
# The claims agent's.
AGENT_DEVICES = "gpumem_dra_published_devices"
AGENT_STANDS_BACK = "gpumem_dra_standing_back"
AGENT_REGISTERED = "gpumem_dra_kubelet_registered"
AGENT_ERRORS = "gpumem_dra_errors_total"
# The watchdog's.
LAST_PASS = "gpumem_watchdog_last_pass_timestamp_seconds"  # noqa: S105 - over the cards, no secret
LEADER = "gpumem_watchdog_leader"
RECYCLES = "gpumem_watchdog_recycles_total"
DRY_RUN = "gpumem_watchdog_dry_run"
# The coordinator's.
COORDINATOR_PASS = "gpumem_coordinator_last_pass_timestamp_seconds"  # noqa: S105 - over the queues, no secret
LANE_PAUSED = "gpumem_coordinator_lane_paused_seconds"
LANE_DEMAND = "gpumem_coordinator_lane_demand_jobs"
GATE_ACTS = "gpumem_coordinator_gate_acts_total"
FALLBACK = "gpumem_coordinator_fallback_active"
LEASE_PASS = "gpumem_lease_last_pass_timestamp_seconds"  # noqa: S105 - over the leases, no secret
LEASE_OVERDUE = "gpumem_lease_overdue_seconds"
# The injector's.
INJECTOR_READY = "gpumem_injector_ready"
CERTIFICATE_END = "gpumem_injector_certificate_expiry_timestamp_seconds"
# The manager's.
MANAGER_TURN = "gpumem_manager_last_turn_timestamp_seconds"
MANAGER_LEADER = "gpumem_manager_leader"
JOBS = "gpumem_manager_jobs"
JOB_TRANSITIONS = "gpumem_manager_transitions_total"
JOB_WAIT = "gpumem_manager_wait_seconds"
PROJECT_UNREAD = "gpumem_manager_project_unread"
JOB_LONGEST_WAIT = "gpumem_manager_longest_wait_seconds"
PROJECT_SPENT = "gpumem_manager_spent_usd"
PROJECT_BUDGET = "gpumem_manager_budget_usd"
TIME_TO_GPU = "gpumem_manager_time_to_gpu_seconds"
RECOVERIES = "gpumem_manager_recoveries_total"
HELD_CARDS = "gpumem_manager_held_cards"
NODE_CARDS = "gpumem_manager_node_cards"
CARD_PRICE = "gpumem_manager_card_usd_per_hour"
BUDGET_ALERTS_FAILING = "gpumem_manager_budget_alerts_failing"
# kube-state-metrics'.
AVAILABLE_REPLICAS = "kube_deployment_status_replicas_available"
POD_LIMITS = "kube_pod_container_resource_limits"
POD_UNSCHEDULABLE = "kube_pod_status_unschedulable"
NODE_ALLOCATABLE = "kube_node_status_allocatable"

CARD = "node, gpu, uuid"
POD = "namespace, pod"
MIB = "2^20"


def one_a_card(series: str) -> str:
    """One value a card, whoever exported it."""
    return f"max by ({CARD}) ({series})"


def lowest_a_card(series: str) -> str:
    """The same where two exporters differ and the lower figure is the careful one."""
    return f"min by ({CARD}) ({series})"


def used_by_pod(matchers: str = "") -> str:
    """`{namespace, pod}`: MiB that it uses, over all its cards."""
    return f"sum by ({POD}) (max by ({POD}, container, uuid) ({POD_USED}{matchers})) / {MIB}"


def used_by_pod_on_card(matchers: str = "") -> str:
    """`{namespace, pod}`: MiB that it uses on the cards that `matchers` select, one series a card."""
    return f"sum by ({POD}, {CARD}) (max by ({POD}, container, {CARD}) ({POD_USED}{matchers})) / {MIB}"


def budget_of_pod(matchers: str = "") -> str:
    """`{namespace, pod}`: MiB that it may use."""
    return f"sum by ({POD}) (max by ({POD}, container) ({BUDGET}{matchers})) / {MIB}"


def unplaced_mib(estate: Estate) -> str:
    """`{namespace, pod}`: MiB that a pod asks for while the scheduler finds no place for it."""
    resource = label_of_resource(estate.resource)
    wanted = f'sum by ({POD}) (max by ({POD}, container) ({POD_LIMITS}{{resource="{resource}"}}))'
    by_number = f"{wanted}\nand on ({POD}) max by ({POD}) ({POD_UNSCHEDULABLE}) == 1"
    # A claim is no resource of the pod: what it asks for is known from the estate.
    claimed = sorted((tenant for tenant in estate.tenants if estate.is_claimed(tenant)), key=lambda tenant: tenant.key)
    parts = [by_number] if estate.number_nodes() or not claimed else []
    parts += [
        f"{tenant.budget_mib} * (max by ({POD}) ({POD_UNSCHEDULABLE}{pods_of_tenant(tenant)}) == 1)"
        for tenant in claimed
    ]
    return parts[0] if len(parts) == 1 else "(\n{}\n)".format("\nor\n".join(parts))


def nodes_without_number(estate: Estate) -> str:
    """`{node}`: GPU nodes that show none, by kube-state-metrics and by the capacity watch.

    The exporter runs on exactly the estate's GPU nodes. Where neither source answers, nothing is said. Nodes with
    a claims agent need no number.
    """
    resource = label_of_resource(estate.resource)
    shown = f'{NODE_ALLOCATABLE}{{resource="{resource}"}} > 0 or {ADVERTISED} > 0'
    if estate.claim_nodes():
        shown += f' or {AGENT_DEVICES} or up{{job="{JOB_DRA_AGENT}"}}'
    answers = f"{NODE_ALLOCATABLE} or {ADVERTISED} or {CAPACITY_SUCCESS}"
    return f'count by (node) ({TELEMETRY_UP}{{node!=""}}) and on () ({answers}) unless on (node) ({shown})'


def pods_of_elastic_tenants(estate: Estate) -> str:
    """The series of pods that may wait by design; empty where no tenant is elastic."""
    elastic = sorted((tenant for tenant in estate.tenants if tenant.elastic), key=lambda tenant: tenant.key)
    return " or ".join(f"{POD_UNSCHEDULABLE}{pods_of_tenant(tenant)}" for tenant in elastic)


def pods_of_tenant(tenant: Tenant) -> str:
    """Matchers of the series of its pods."""
    return f'{{namespace="{tenant.namespace}", pod=~"{_pods_of(tenant)}"}}'


def grown(series: str, window: str) -> str:
    """By how much each counter grew, one that was born within the window included.

    A counter of something rare appears with its first event, and `increase` says 0 of that one.
    """
    return (
        f"(increase({series}[{window}]) and {series} offset {window} "
        f"or last_over_time({series}[{window}]) unless {series} offset {window})"
    )


def recycles(matchers: str, window: str) -> str:
    """`{tenant, outcome}`: acts in the window. Every watchdog counts its own, each of them once."""
    return f"sum by (tenant, outcome) (max by (tenant, outcome, instance) ({grown(RECYCLES + matchers, window)}))"


def ended_jobs(statuses: str, window: str) -> str:
    """`{project}`: jobs that reached one of `statuses` (a regular expression) in the window. Leaders count, in turn."""
    series = f'{JOB_TRANSITIONS}{{status=~"{statuses}"}}[{window}]'
    return f"sum by (project) (max by (project, status, instance) (increase({series})))"


def failed_ratio(window: str) -> str:
    """`{project}`: the part of the jobs that ended in the window that failed; nothing where none ended."""
    return f"{ended_jobs('failed', window)}\n/ ({ended_jobs('failed|completed', window)} > 0)"


def jobs_in(statuses: str) -> str:
    """`{project, status}`: jobs in one of `statuses` now, by the leader; who led before shows what it saw last."""
    leader = f"max by (instance) ({MANAGER_LEADER}) == 1"
    return f'max by (project, status) ({JOBS}{{status=~"{statuses}"}} and on (instance) {leader})'


def job_wait(quantile: float, by: str = "") -> str:
    """`{by}`: so long the jobs waited that were let go lately."""
    labels = f"le, {by}" if by else "le"
    buckets = f"{JOB_WAIT}_bucket[$__rate_interval]"
    return f"histogram_quantile({quantile:g}, sum by ({labels}) (rate({buckets})))"


def label_of_resource(resource: str) -> str:
    """How kube-state-metrics spells a resource in its label: all but letters and digits become `_`."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", resource)


def with_cause(parts: Sequence[tuple[str, str]]) -> str:
    """`(cause, expression)` pairs as one expression whose series carry their cause."""
    return "\nor\n".join(
        f'label_replace(\n  {expression},\n  "cause", "{cause}", "", ""\n)' for cause, expression in parts
    )


def _pods_of(tenant: Tenant) -> str:
    """A matcher of the names that controllers give the tenant's pods."""
    tails = {"Deployment": "-[a-z0-9]{1,10}-[a-z0-9]{5}", "StatefulSet": "-[0-9]+", "DaemonSet": "-[a-z0-9]{5}"}
    # A workload's name may hold dots; the string around it is PromQL's, which wants its backslash twice.
    name = tenant.workload.name.replace(".", "\\\\.")
    return name + tails[tenant.workload.kind]
