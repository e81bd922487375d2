"""A project's namespace and what stands in it before any job: quota, isolation, people's rights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from helpers.domain import names
from helpers.domain.admission.settings import GPU_SYSTEM_NAMESPACE
from helpers.domain.estate.gpu_ceilings import gpu_ceiling
from helpers.domain.estate.manager import Manager, Project
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import WHOLE_GPU_RESOURCE
from helpers.domain.estate.project_network import NetworkPeer
from helpers.domain.jobs.rights import submitter_rights, viewer_rights
from helpers.domain.quantity import canonical_count
from helpers.domain.rights import policy_rules
from helpers.rendering.consumers import own_namespaces
from helpers.rendering.objects import RenderedObject, address_of
from helpers.rendering.templates import render_template

Labels = Mapping[str, str]
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"


def project_objects(estate: Estate, manager: Manager, labels: Labels) -> Iterator[RenderedObject]:
    """Namespaces first, then what is in them."""
    # What wave 1 renders is there already; a second owner with the same field manager would take fields away.
    already = own_namespaces(estate)
    projects = [_project(estate, manager, project, already) for project in manager.projects]
    context = {
        "labels": labels,
        "projects": projects,
        "manager_namespace": GPU_SYSTEM_NAMESPACE,
        "manager_name": names.MANAGER_COMPONENT,
    }
    yield from render_template(2, "projects/namespaces.yaml.j2", **context)
    yield from render_template(2, "projects/quotas.yaml.j2", **context)
    yield from render_template(2, "projects/network-policies.yaml.j2", **context)
    yield from render_template(
        2,
        "projects/rbac.yaml.j2",
        labels=labels,
        roles=[role for project in manager.projects for role in _roles(project, after_namespace(estate, project))],
    )


def after_namespace(estate: Estate, project: Project) -> list[str]:
    """What an object inside the project's namespace comes after."""
    rendered = project.create_namespace and project.name not in own_namespaces(estate)
    return [address_of("project-namespace", project.name)] if rendered else []


def _project(estate: Estate, manager: Manager, project: Project, already: Iterable[str]) -> dict[str, Any]:
    rendered = project.create_namespace and project.name not in already
    return {
        "name": project.name,
        "namespace_address": address_of("project-namespace", project.name) if rendered else None,
        "after": after_namespace(estate, project),
        "quota_address": address_of("project-quota", project.name),
        "hard": _hard(manager, project),
        "network_address": address_of("project-network", project.name),
        "network": _network(estate, manager, project) if manager.network.isolated else None,
    }


def _hard(manager: Manager, project: Project) -> dict[str, Any]:
    ceiling = gpu_ceiling(manager, project)
    gpus = {} if ceiling is None else {f"requests.{WHOLE_GPU_RESOURCE}": canonical_count(ceiling)}
    return {**(project.quota.hard if project.quota else {}), **gpus}


def _network(estate: Estate, manager: Manager, project: Project) -> dict[str, Any]:
    network, dns = manager.network, manager.network.dns
    mine = {names.project_label(estate.label_prefix): project.name}
    pods_of_dns = {
        "namespaceSelector": {"matchLabels": {NAMESPACE_NAME_LABEL: dns.namespace}},
        "podSelector": {"matchLabels": dns.pod_labels},
    }
    return {
        "pods": {} if network.all_pods else {"matchLabels": mine},
        "dns": [pods_of_dns, *({"ipBlock": {"cidr": cidr}} for cidr in dns.cidrs)],
        "dns_port": dns.port,
        "egress": [_rule(peer) for peer in (*network.egress, *project.egress)],
        "ingress": [_rule(peer) for peer in network.ingress],
    }


def _rule(peer: NetworkPeer) -> dict[str, Any]:
    peers: list[dict[str, Any]] = [
        {"ipBlock": {"cidr": cidr} | ({"except": list(peer.except_cidrs)} if peer.except_cidrs else {})}
        for cidr in peer.cidrs
    ]
    if peer.namespace is not None:
        pods = {"podSelector": {"matchLabels": peer.pod_labels}} if peer.pod_labels else {}
        peers = [{"namespaceSelector": {"matchLabels": {NAMESPACE_NAME_LABEL: peer.namespace}}} | pods]
    return {"peers": peers, "ports": [{"protocol": "TCP", "port": port} for port in peer.ports]}


def _roles(project: Project, after: list[str]) -> Iterator[dict[str, Any]]:
    kinds = (("submitter", submitter_rights(), project.submitters), ("viewer", viewer_rights(), project.viewers))
    for kind, rights, subjects in kinds:
        if subjects:
            yield {
                "address": address_of(f"project-{kind}-role", project.name),
                "binding_address": address_of(f"project-{kind}-binding", project.name),
                "after": after,
                "name": f"gpumem-{kind}",
                "namespace": project.name,
                "rules": policy_rules(rights, "tenants"),
                "subjects": [_subject(project, one.kind, one.name, one.namespace) for one in subjects],
            }


def _subject(project: Project, kind: str, name: str, namespace: str | None) -> dict[str, str]:
    if kind == "ServiceAccount":
        return {"kind": kind, "name": name, "namespace": namespace or project.name}
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
