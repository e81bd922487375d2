"""Asks a tenant's pods whether they work, and an exporter what they use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from helpers.domain.demand_gates.rules import is_gated
from helpers.domain.errors import ClusterError
from helpers.domain.estate.health import Health, Probe
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant
from helpers.domain.health import PodHealth, ProbeResult, TenantHealth
from helpers.domain.pod_owner import workload_of
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster, Manifest, ObjectRef
from helpers.ports.pod_commands import PodCommands
from helpers.ports.probes import ProbedPod, Prober
from helpers.ports.watchdog_telemetry import Exporters, ExporterTarget, Scrape
from helpers.services.watchdog_targets import SERVICE_LABEL, targets_of

_PARALLEL_COUNT = 8
_LONGEST_TEXT = 120


@dataclass(frozen=True)
class HealthPorts:
    """Whom to ask. `exporters` None: nobody is asked what pods use; `service`: where its addresses are."""

    cluster: Cluster
    prober: Prober
    commands: PodCommands
    clock: Clock
    exporters: Exporters | None = None
    targets: frozenset[ExporterTarget] = frozenset()
    service: tuple[str, str] | None = None


def observe_health(ports: HealthPorts, estate: Estate, tenant: Tenant) -> TenantHealth:
    """One look at every running pod of `tenant`.

    Raises:
        ClusterError: the API refused or did not answer.
    """
    pods = _running(ports.cluster, tenant)
    use = _Use(_scrapes(ports))
    with ThreadPoolExecutor(_PARALLEL_COUNT, thread_name_prefix="probe") as pool:
        asked = [pool.submit(_probed, ports, tenant, pod, use) for pod in pods]
        found = tuple(one.result() for one in asked)
    return TenantHealth(
        tenant=tenant.name,
        observed_at=ports.clock.now_at(),
        # A demand gate may have closed it, and rightly.
        wanted_pods_count=0 if is_gated(estate, tenant.name) else estate.pods_count(tenant),
        budget_mib=tenant.budget_mib,
        pods=found,
    )


def _running(cluster: Cluster, tenant: Tenant) -> list[Manifest]:
    wanted = (tenant.workload.kind, tenant.workload.name)
    return [
        pod
        for pod in cluster.list(ObjectRef("v1", "Pod", namespace=tenant.namespace))
        if workload_of(pod["metadata"]) == wanted
        and (pod.get("status") or {}).get("phase") == "Running"
        and "deletionTimestamp" not in pod["metadata"]
    ]


def _probed(ports: HealthPorts, tenant: Tenant, pod: Manifest, use: _Use) -> PodHealth:
    name = str(pod["metadata"]["name"])
    seen = ProbedPod(tenant.namespace, name, str(pod["status"].get("podIP") or ""))
    asked = tenant.health or Health.model_construct()
    probes = tuple(_result(ports, tenant, probe, seen, asked.tries_count) for probe in asked.probes)
    used_mib, why = use.of(seen, str(pod["spec"].get("nodeName") or ""))
    return PodHealth(pod=name, probes=probes, used_mib=used_mib, used_unknown=why)


def _result(ports: HealthPorts, tenant: Tenant, probe: Probe, pod: ProbedPod, tries_count: int) -> ProbeResult:
    ask = _question(ports, tenant, probe, pod)
    tries = 1 if probe.exec is not None else tries_count
    failures, slowest_seconds = [], 0.0
    for _ in range(tries):
        began_seconds = ports.clock.monotonic_seconds()
        if failure := ask():
            failures.append(failure)
        slowest_seconds = max(slowest_seconds, ports.clock.monotonic_seconds() - began_seconds)
    return ProbeResult(
        probe=probe.name,
        tries_count=tries,
        failed_count=len(failures),
        slowest_seconds=round(slowest_seconds, 3),
        failure=failures[0] if failures else "",
    )


def _question(ports: HealthPorts, tenant: Tenant, probe: Probe, pod: ProbedPod) -> Callable[[], str]:
    seconds = probe.timeout_seconds
    if probe.http is not None:
        http = probe.http
        return lambda: ports.prober.http(http, pod, seconds)
    if probe.tcp is not None:
        tcp = probe.tcp
        return lambda: ports.prober.tcp(tcp, pod, seconds)
    command = probe.exec.command if probe.exec is not None else ()
    return lambda: _command(ports.commands, tenant, pod, command, seconds)


def _command(
    commands: PodCommands, tenant: Tenant, pod: ProbedPod, command: tuple[str, ...], timeout_seconds: float
) -> str:
    ref = ObjectRef("v1", "Pod", pod.name, pod.namespace)
    try:
        ended = commands.run(ref, tenant.workload.container, command, timeout_seconds)
    except ClusterError as error:
        return str(error)
    text = " ".join(ended.output.split())[:_LONGEST_TEXT]
    return "" if ended.exit_status == 0 else f"{command[0]}: exit status {ended.exit_status} {text}".strip()


def _scrapes(ports: HealthPorts) -> tuple[Scrape, ...]:
    if ports.exporters is None:
        return ()
    targets = set(ports.targets)
    if ports.service is not None:
        namespace, service = ports.service
        ref = ObjectRef("discovery.k8s.io/v1", "EndpointSlice", namespace=namespace)
        for one in ports.cluster.list(ref, label_selector=f"{SERVICE_LABEL}={service}"):
            targets |= set(targets_of(one))
    return ports.exporters.scrape(targets)


class _Use:
    """What pods use, as the exporters of their nodes say."""

    def __init__(self, scrapes: Iterable[Scrape]) -> None:
        self._by_node = {scrape.target.node: scrape for scrape in scrapes}

    def of(self, pod: ProbedPod, node: str) -> tuple[int | None, str]:
        """MiB over all cards, or None and why nobody knows."""
        scrape = self._by_node.get(node)
        if scrape is None:
            return None, f"no exporter of node {node} was asked (--exporter NODE=URL, or --scrape)"
        if scrape.samples is None:
            return None, scrape.problem
        bad = [sample for sample in scrape.samples if not sample.ok]
        if bad:
            return None, f"card {bad[0].card}: {bad[0].error}"
        rows = (one for sample in scrape.samples for one in sample.pods)
        return sum(one.used_mib for one in rows if (one.namespace, one.pod) == (pod.namespace, pod.name)), ""
