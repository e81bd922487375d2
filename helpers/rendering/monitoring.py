"""Wave 0: alerts, scraping and the dashboard, for a Prometheus with or without the operator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from helpers.domain.admission.settings import GPU_SYSTEM_NAMESPACE
from helpers.domain.dra.rights import DRA_AGENT_COMPONENT
from helpers.domain.estate import monitoring as names
from helpers.domain.estate.model import Estate
from helpers.domain.estate.monitoring import Monitoring
from helpers.domain.names import INJECTOR_COMPONENT, MANAGED_BY, MANAGER_COMPONENT
from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.rendering.admission_webhook import runs_webhook
from helpers.rendering.dashboard import dashboard
from helpers.rendering.dra import runs_claims_agent
from helpers.rendering.manager_objectives import objective_group
from helpers.rendering.manifest_yaml import to_yaml
from helpers.rendering.monitoring_alerts import monitoring_alerts
from helpers.rendering.objects import RenderedObject
from helpers.rendering.templates import render_template

# The pods' label and the port's name by which both ways of scraping find them.
APP_LABEL = "app.kubernetes.io/name"
METRICS_PORT = "metrics"


@dataclass(frozen=True)
class Job:
    """One scrape job: its name, and the label by which its pods are known."""

    name: str
    app: str
    by_node: bool = False
    namespace: str = ""
    """Where they are; empty: in the estate's own."""
    label: str = APP_LABEL
    """The label that `app` is the value of."""

    @property
    def relabelings(self) -> list[dict[str, Any]]:
        """In the operator's spelling: the job's name, and for what runs once a node, that node."""
        rules: list[dict[str, Any]] = [{"targetLabel": "job", "replacement": self.name}]
        if self.by_node:
            rules.append({"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"})
        return rules


def monitoring_objects(estate: Estate, settings: WatchdogSettings, monitoring: Monitoring) -> Iterator[RenderedObject]:
    """Rules and scraping in the form that the cluster's Prometheus reads, and the dashboard.

    Args:
        estate: The estate.
        settings: The document that its watchdog runs with.
        monitoring: The estate's block of that name.
    """
    shared = {"estate": estate, "labels": MANAGED_BY}
    if monitoring.prometheus_operator:
        operator = {
            **shared,
            "object_labels": dict(monitoring.object_labels),
            "rules": rule_groups(estate, settings, monitoring),
            "jobs": scrape_jobs(estate),
            "interval": f"{monitoring.scrape_interval_seconds}s",
        }
        yield from render_template(0, "monitoring/prometheus-rule.yaml.j2", **operator)
        yield from render_template(0, "monitoring/pod-monitors.yaml.j2", **operator)
    else:
        yield from render_template(
            0,
            "monitoring/config.yaml.j2",
            **shared,
            config_map=monitoring.config_map,
            rules_file=names.RULES_FILE,
            rules_text=rules_text(estate, settings, monitoring),
            scrape_file=names.SCRAPE_FILE,
            scrape_text=scrape_text(estate, monitoring),
        )
    if monitoring.dashboard:
        yield from render_template(
            0,
            "monitoring/dashboard.yaml.j2",
            **shared,
            sidecar_label=monitoring.grafana_sidecar_label,
            sidecar_value=monitoring.grafana_sidecar_value,
            dashboard_file=names.DASHBOARD_FILE,
            dashboard_text=dashboard_text(estate, settings, monitoring),
        )


def rule_groups(estate: Estate, settings: WatchdogSettings, monitoring: Monitoring) -> dict[str, Any]:
    """`{"groups": [...]}`: a rules file's content, and a PrometheusRule's spec."""
    rules = [alert.rule(monitoring.runbook_base_url) for alert in monitoring_alerts(estate, settings, monitoring)]
    groups = [{"name": "gpumem", "interval": f"{monitoring.scrape_interval_seconds}s", "rules": rules}]
    return {"groups": [*groups, *([objective_group()] if estate.manager is not None else [])]}


def rules_text(estate: Estate, settings: WatchdogSettings, monitoring: Monitoring) -> str:
    """The plain rules file."""
    return to_yaml(rule_groups(estate, settings, monitoring))


def scrape_jobs(estate: Estate) -> tuple[Job, ...]:
    """What is scraped."""
    jobs = [Job(names.JOB_EXPORTER, "gpumem-exporter", by_node=True), Job(names.JOB_WATCHDOG, "gpumem-watchdog")]
    if estate.capacity.watch and estate.number_nodes():
        jobs.append(Job(names.JOB_CAPACITY, "gpumem-capacity-watch"))
    if runs_claims_agent(estate):
        jobs.append(Job(names.JOB_DRA_AGENT, DRA_AGENT_COMPONENT, by_node=True))
    if runs_webhook(estate):
        jobs.append(Job(names.JOB_INJECTOR, INJECTOR_COMPONENT, namespace=GPU_SYSTEM_NAMESPACE))
    if estate.coordinator is not None:
        jobs.append(Job(names.JOB_COORDINATOR, "gpumem-coordinator", namespace=GPU_SYSTEM_NAMESPACE))
    if estate.manager is not None:
        jobs.append(Job(names.JOB_MANAGER, MANAGER_COMPONENT, namespace=GPU_SYSTEM_NAMESPACE))
    if estate.gpu_operator is not None and estate.gpu_operator.dcgm_exporter:
        jobs.append(Job(names.JOB_DCGM, names.JOB_DCGM, by_node=True, label="app"))
    return tuple(jobs)


def scrape_text(estate: Estate, monitoring: Monitoring) -> str:
    """The plain scrape configuration: the same pods, by Prometheus's own discovery."""
    return to_yaml({"scrape_configs": [_scrape_config(estate, job, monitoring) for job in scrape_jobs(estate)]})


def dashboard_text(estate: Estate, settings: WatchdogSettings, monitoring: Monitoring) -> str:
    """The dashboard as Grafana imports it."""
    return json.dumps(dashboard(estate, settings, monitoring), indent=1, sort_keys=True) + "\n"


def _scrape_config(estate: Estate, job: Job, monitoring: Monitoring) -> dict[str, Any]:
    relabel = [
        {"action": "keep", "source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": METRICS_PORT},
    ]
    if job.by_node:
        relabel.append({"source_labels": ["__meta_kubernetes_pod_node_name"], "target_label": "node"})
    return {
        "job_name": job.name,
        "scrape_interval": f"{monitoring.scrape_interval_seconds}s",
        "scrape_timeout": f"{min(10, monitoring.scrape_interval_seconds)}s",
        # namespace, pod, container and node name what a series is about, not the scraped pod.
        "honor_labels": True,
        "kubernetes_sd_configs": [
            {
                "role": "pod",
                "namespaces": {"names": [job.namespace or estate.namespace]},
                "selectors": [{"role": "pod", "label": f"{job.label}={job.app}"}],
            }
        ],
        "relabel_configs": relabel,
    }
