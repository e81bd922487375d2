"""Rules about those who watch: exporters, watchdog, capacity watch, and the webhook."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from helpers.domain import names
from helpers.domain.admission.certificate_plan import Authority
from helpers.domain.admission.settings import GPU_SYSTEM_NAMESPACE
from helpers.domain.doctor.commands import kubectl
from helpers.domain.doctor.facts import DoctorFacts, Manifest, ObjectName, PodSeen
from helpers.domain.doctor.finding import Finding, Severity
from helpers.domain.watchdog.rights import EXPORTER_SERVICE, WATCHDOG_COMPONENT, WATCHDOG_LEASE

_CAPACITY_WATCH = "gpumem-capacity-watch"
# Where a clock or a renewal is late by less, nothing is wrong.
_LEASE_SLACK = timedelta(seconds=5)


def exporters(facts: DoctorFacts) -> Iterator[Finding]:
    """Ready GPU nodes without a running exporter, or whose exporter does not answer."""
    for entry in facts.estate.nodes:
        daemon_set = ObjectName("DaemonSet", facts.estate.namespace, f"{EXPORTER_SERVICE}-{entry.name}")
        if daemon_set not in facts.objects:
            continue  # said by the rule about objects
        for node in facts.nodes_of(entry):
            pods = [pod for pod in facts.pods if pod.node == node.name and pod.made_by(daemon_set)]
            silent = facts.scrapes.get(node.name, "")
            if node.ready and not any(pod.ready for pod in pods):
                yield _exporter_missing(node.name, daemon_set, pods)
            elif silent:
                yield Finding(
                    "exporter-silent",
                    Severity.ERROR,
                    f"Node {node.name}",
                    f"{silent}; what its cards use is unknown, and the watchdog does nothing there",
                    "read its log; docs/runbooks/GPUVRAMTelemetryDown.md",
                    kubectl("rollout", "restart", f"daemonset/{daemon_set.name}", namespace=daemon_set.namespace),
                )


def _exporter_missing(node: str, daemon_set: ObjectName, pods: list[PodSeen]) -> Finding:
    shown = ", ".join(f"{pod} is {pod.phase} and not ready" for pod in pods) or "it has no pod there"
    return Finding(
        "exporter-missing",
        Severity.ERROR,
        f"Node {node}",
        f"{daemon_set}: {shown}",
        "see why its pod is not there: a taint that it does not tolerate, an image, a label of the node "
        f"(kubectl -n {daemon_set.namespace} describe daemonset {daemon_set.name})",
    )


def guards(facts: DoctorFacts) -> Iterator[Finding]:
    """Watchdog and capacity watch: is somebody there, and does somebody lead?"""
    namespace = facts.estate.namespace
    watched = [("watchdog", ObjectName("Deployment", namespace, WATCHDOG_COMPONENT), WATCHDOG_LEASE)]
    if facts.estate.capacity.watch:
        lease = names.CAPACITY_LEASE
        watched.append(("capacity-watch", ObjectName("Deployment", namespace, _CAPACITY_WATCH), lease))
    for what, deployment, lease in watched:
        found = facts.objects.get(deployment)
        if found is None:
            continue  # said by the rule about objects
        if not _ready_count(found):
            yield _nobody(what, deployment, found)
        else:
            yield from _leader(facts, what, deployment, ObjectName("Lease", namespace, lease))


def _ready_count(deployment: Manifest) -> int:
    return int((deployment.get("status") or {}).get("readyReplicas") or 0)


def _nobody(what: str, deployment: ObjectName, found: Manifest) -> Finding:
    replicas = int(found["spec"].get("replicas", 1))
    where = {"namespace": deployment.namespace}
    if replicas == 0:
        wanted = 2 if what in ("watchdog", "webhook") else 1
        repair = (
            "scale it up again",
            kubectl("scale", f"deployment/{deployment.name}", f"--replicas={wanted}", **where),
        )
    else:
        repair = (f"see why: kubectl -n {deployment.namespace} describe deployment {deployment.name}", "")
    return Finding(
        f"{what}-down", Severity.ERROR, str(deployment), f"0 of {replicas} replicas are ready; nobody does its work",
        *repair,
    )  # fmt: skip


def _leader(facts: DoctorFacts, what: str, deployment: ObjectName, name: ObjectName) -> Iterator[Finding]:
    spec = (facts.objects.get(name) or {}).get("spec") or {}
    holder, renewed = str(spec.get("holderIdentity") or ""), spec.get("renewTime")
    until_at = None
    if renewed is not None:
        duration = timedelta(seconds=float(spec.get("leaseDurationSeconds") or 0))
        until_at = datetime.fromisoformat(str(renewed)) + duration + _LEASE_SLACK
    restart = kubectl("rollout", "restart", f"deployment/{deployment.name}", namespace=deployment.namespace)
    repair = f"read its log (kubectl -n {deployment.namespace} logs deployment/{deployment.name}), then restart it"
    if not holder:
        shown = "it is not there" if name not in facts.objects else "nobody holds it"
        yield Finding(
            f"{what}-no-leader", Severity.ERROR, str(name), f"{shown}, though replicas are ready", repair, restart
        )
    elif until_at is None or facts.now_at > until_at:
        yield Finding(
            f"{what}-lease-expired",
            Severity.ERROR,
            str(name),
            f"{holder} renewed it last at {renewed}, and nobody took over",
            repair,
            restart,
        )


def dry_run(facts: DoctorFacts) -> Iterator[Finding]:
    """A watchdog that has only talked for a long time."""
    found = facts.objects.get(ObjectName("Deployment", facts.estate.namespace, WATCHDOG_COMPONENT))
    if found is None or not facts.estate.watchdog.dry_run:
        return
    created_at = datetime.fromisoformat(str(found["metadata"]["creationTimestamp"]))
    days = (facts.now_at - created_at) / timedelta(days=1)
    if days >= facts.thresholds.dry_run_days:
        yield Finding(
            "watchdog-dry-run",
            Severity.INFO,
            f"Deployment {facts.estate.namespace}/{WATCHDOG_COMPONENT}",
            f"it has been there for {days:.0f} days, and watchdog.dry_run is true: it frees nothing",
            "ask `gpumem arm` whether it may act, and write what it prints",
        )


def webhook(facts: DoctorFacts) -> Iterator[Finding]:
    """A webhook that cannot be reached, or that API servers do not believe."""
    configuration = ObjectName("MutatingWebhookConfiguration", "", names.WEBHOOK_CONFIGURATION)
    if configuration not in facts.wanted or configuration not in facts.objects:
        return
    deployment = ObjectName("Deployment", GPU_SYSTEM_NAMESPACE, names.WEBHOOK_SERVICE)
    found = facts.objects.get(deployment)
    if found is not None and not facts.endpoints.get((GPU_SYSTEM_NAMESPACE, names.WEBHOOK_SERVICE)):
        down = _nobody("webhook", deployment, found)
        yield Finding(
            "webhook-no-endpoints",
            Severity.ERROR,
            f"Service {GPU_SYSTEM_NAMESPACE}/{names.WEBHOOK_SERVICE}",
            f"no ready endpoint; pods that ask for a GPU are refused. {deployment}: {down.evidence.split(';')[0]}",
            f"{down.fix}; docs/runbooks/recovery-webhook-down.md",
            down.command,
        )
    for name, authorities in facts.authorities.items():
        yield from _trust(facts, f"{configuration}, {name}", authorities)


def _trust(facts: DoctorFacts, where: str, authorities: tuple[Authority, ...] | None) -> Iterator[Finding]:
    restart = kubectl("rollout", "restart", f"deployment/{names.WEBHOOK_SERVICE}", namespace=GPU_SYSTEM_NAMESPACE)
    until_at = max((one.not_after_at for one in authorities or ()), default=None)
    if until_at is None:
        shown = "caBundle is empty" if authorities is None else "caBundle holds no certificate that can be read"
        yield Finding(
            "webhook-ca-empty", Severity.ERROR, where, f"{shown}: API servers do not trust the webhook",
            "its leader writes it: read the log, then restart it", restart,
        )  # fmt: skip
        return
    ends = f"{until_at:%Y-%m-%dT%H:%M:%SZ}"
    if until_at <= facts.now_at:
        yield Finding(
            "webhook-ca-expired", Severity.ERROR, where, f"its last certificate ended at {ends}",
            "its leader renews it: read the log, then restart it", restart,
        )  # fmt: skip
    elif until_at - facts.now_at < timedelta(days=facts.thresholds.certificate_days):
        yield Finding(
            "webhook-ca-expiring", Severity.WARNING, where, f"its last certificate ends at {ends}",
            "its leader should have renewed it: docs/runbooks/GPUWebhookCertificateExpiring.md", restart,
        )  # fmt: skip
