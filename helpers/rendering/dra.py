"""Wave 0: what claims on a card's memory need: the class that they name, and the agent that publishes the cards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from helpers.domain import names
from helpers.domain.dra import naming
from helpers.domain.dra.claims import TEMPLATE_PREFIX, device_class_expression
from helpers.domain.dra.rights import DRA_AGENT_COMPONENT, DRA_AGENT_METRICS_PORT, dra_agent_rights
from helpers.domain.dra.settings import DraAgentSettings
from helpers.domain.dra.slice_document import API_VERSION
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.rights import policy_rules
from helpers.rendering.nvidia import gpu_tolerations
from helpers.rendering.objects import RenderedObject, address_of
from helpers.rendering.templates import render_template

_FOLDERS = ("plugin", "registry", "cdi")


def dra_objects(estate: Estate) -> Iterator[RenderedObject]:
    """Nothing where no kind of node counts budgets by claims; no agent where NVIDIA's driver publishes the cards."""
    if not estate.claim_nodes():
        return
    shared: dict[str, Any] = {"estate": estate, "labels": names.MANAGED_BY}
    yield from render_template(
        0,
        "dra-agent/device-class.yaml.j2",
        **shared,
        api_version=API_VERSION,
        name=naming.DEVICE_CLASS,
        expression=device_class_expression(estate),
    )
    if runs_claims_agent(estate):
        yield from _agent(estate, shared)


def runs_claims_agent(estate: Estate) -> bool:
    """Whether nodes have the agent: budgets are claims there, and nobody else publishes the cards."""
    return bool(estate.claim_nodes()) and estate.budget.published_by == "agent"


def agent_arguments(node: Node) -> list[str]:
    """`gpumem` arguments of the agent's container on nodes of this kind."""
    arguments = ["dra-agent", "run", "--node-name", "$(NODE_NAME)"]
    arguments += ["--metrics-address", f":{DRA_AGENT_METRICS_PORT}"]
    # What the estate declares is what the seating counted with, so no card may offer more.
    reserves_mib: dict[str, int] = {}
    for gpu in node.gpus:
        reserves_mib[gpu.model] = max(gpu.reserve_mib, reserves_mib.get(gpu.model, 0))
    for model, reserve_mib in reserves_mib.items():
        arguments += ["--reserve-by-model", f"{model}={reserve_mib}"]
    divided = [gpu.mig for gpu in node.gpus if gpu.mig is not None]
    if divided:
        arguments += ["--mig-reserve-mib", str(max(one.reserve_mib for one in divided))]
    for profile in sorted({instance.profile for one in divided for instance in one.instances}):
        arguments += ["--mig-profile", profile]
    return arguments


def _agent(estate: Estate, shared: dict[str, Any]) -> Iterator[RenderedObject]:
    rights = dra_agent_rights()
    context = {
        **shared,
        "service_account": DRA_AGENT_COMPONENT,
        "driver": naming.DRIVER,
        "port": DRA_AGENT_METRICS_PORT,
        "cluster_rules": policy_rules(rights, "cluster"),
        "default_rules": policy_rules(rights, "default"),
        # The plugin's own folder alone is not enough: the kubelet finds its socket through the registry.
        "folders": {
            name: DraAgentSettings.model_fields[f"{name}_dir"].default for name in ("plugin", "registry", "cdi")
        },
    }
    yield from render_template(0, "dra-agent/rbac.yaml.j2", **context)
    yield from render_template(0, "dra-agent/own-node.yaml.j2", **context)
    ours = f'claim.?resourceClaimTemplateName.orValue("").startsWith("{TEMPLATE_PREFIX}")'
    yield from render_template(0, "dra-agent/one-claim.yaml.j2", **context, is_ours=ours)
    for node in estate.claim_nodes():
        yield from render_template(
            0,
            "dra-agent/daemon-set.yaml.j2",
            **context,
            address=address_of("dra-agent-node", node.name),
            name=f"{DRA_AGENT_COMPONENT}-{node.name}",
            node_selector=node.node_selector(),
            tolerations=gpu_tolerations(node),
            arguments=agent_arguments(node),
        )
