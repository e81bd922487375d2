"""Rules about nodes whose budgets are claims: their cards are offered, and nothing there is counted by the number."""

from __future__ import annotations

from collections.abc import Iterator

from helpers.domain.capacity import ClaimNode
from helpers.domain.doctor.commands import apply_objects, gpumem, kubectl, kubectl_patch
from helpers.domain.doctor.facts import DoctorFacts, NodeSeen, ObjectName, PodSeen
from helpers.domain.doctor.finding import Finding, Severity
from helpers.domain.dra.gate import offered_shortfalls
from helpers.domain.dra.rights import DRA_AGENT_COMPONENT
from helpers.domain.estate.nodes import Node
from helpers.domain.json_pointer import escaped


def offered(facts: DoctorFacts) -> Iterator[Finding]:
    """Nodes that offer no card to claims, or others than the estate's."""
    settings = facts.capacity()
    kinds: dict[str, ClaimNode] = {kind.name: kind for kind in settings.claim_nodes}
    for entry in facts.estate.claim_nodes():
        for node in facts.nodes_of(entry):
            for short in offered_shortfalls(kinds[entry.name], node.facts, facts.cards, settings.claims_driver):
                yield Finding(
                    "cards-differ" if facts.cards_of(node.name) else "cards-missing",
                    Severity.ERROR,
                    f"Node {node.name}",
                    f"{short.shown}, wanted {short.wanted}",
                    *_offer_again(facts, entry, node),
                )


def _offer_again(facts: DoctorFacts, entry: Node, node: NodeSeen) -> tuple[str, str]:
    if facts.estate.budget.published_by != "agent":
        return "see why NVIDIA's DRA driver on that node does not publish them (consumableShares: memory)", ""
    agent = ObjectName("DaemonSet", facts.estate.namespace, f"{DRA_AGENT_COMPONENT}-{entry.name}")
    if agent not in facts.objects:
        return "the agent that publishes them is not there: apply it again", apply_objects(facts, agent)
    pods = [pod for pod in facts.pods if pod.node == node.name and pod.made_by(agent)]
    if not any(pod.ready for pod in pods):
        shown = ", ".join(f"{pod} is {pod.phase} and not ready" for pod in pods) or "it has no pod there"
        why = f"kubectl -n {agent.namespace} describe daemonset {agent.name}"
        return f"{agent} publishes them, and {shown}: see why ({why})", ""
    if any(card.taints for card in facts.cards_of(node.name)):
        return "mend or replace the card, or correct gpus; docs/runbooks/recovery-gpu-lost.md", ""
    if facts.cards_of(node.name):
        log = f"kubectl -n {agent.namespace} logs daemonset/{agent.name}"
        return f"the agent's log says what it reads of each card ({log}): mend the card, or correct gpus", ""
    return (
        "read the agent's log, then restart it; docs/runbooks/GPUClaimsAgentDown.md",
        kubectl("rollout", "restart", f"daemonset/{agent.name}", namespace=agent.namespace),
    )


def number_beside_claims(facts: DoctorFacts) -> Iterator[Finding]:
    """A number that is still shown lets pods in that claims do not see."""
    resource = facts.estate.resource
    for entry in facts.estate.claim_nodes():
        for node in facts.nodes_of(entry):
            amounts = {"capacity": node.facts.capacity_mib, "allocatable": node.facts.allocatable_mib}
            shown = {field: amount_mib for field, amount_mib in amounts.items() if amount_mib is not None}
            if not shown:
                continue
            fix, command = "take it off; the apply that brought claims should have", gpumem(facts, "capacity", "assert")
            if not node.facts.owned:
                remove = [{"op": "remove", "path": f"/status/{field}/{escaped(resource)}"} for field in shown]
                fix = "somebody else wrote it: have them stop, and take it off"
                command = kubectl_patch(ObjectName("Node", "", node.name), remove, how="json", subresource="status")
            said = " and ".join(f"{field} {resource} is {amount_mib}" for field, amount_mib in shown.items())
            yield Finding(
                "capacity-beside-claims",
                Severity.ERROR,
                f"Node {node.name}",
                f"{said}; budgets are claims there, and do not see the pods that a number lets in",
                fix,
                command,
            )


def budgets_mixed(facts: DoctorFacts) -> Iterator[Finding]:
    """Nodes with budgets of the other backend: together they may take more of a card than it has."""
    for entry in facts.estate.claim_nodes():
        for node in facts.nodes_of(entry):
            pods = [pod for pod in facts.pods if pod.node == node.name and pod.holds and pod.budget_mib]
            if pods:
                held = ", ".join(f"{pod} {pod.budget_mib}" for pod in sorted(pods, key=str))
                yield _mixed(node, f"number: {held}", *_moved(facts, entry, pods))
    for entry in facts.estate.number_nodes():
        for node in facts.nodes_of(entry):
            keys = {card.key for card in facts.cards_of(node.name)}
            claims = sorted(f"{one.namespace}/{one.claim} {one.memory_mib}" for one in facts.held if one.key in keys)
            if claims:
                back = gpumem(facts, "migrate", "--to", "extendedResource", "--node", entry.name, "--execute")
                yield _mixed(node, f"claim: {', '.join(claims)}", "move them to the number", back)


def _mixed(node: NodeSeen, held: str, fix: str, command: str) -> Finding:
    return Finding(
        "budgets-mixed",
        Severity.ERROR,
        f"Node {node.name}",
        f"it still holds budgets by {held}; what counts there now does not see them",
        fix,
        command,
    )


def _moved(facts: DoctorFacts, entry: Node, pods: list[PodSeen]) -> tuple[str, str]:
    if any(pod.belongs_to(tenant) for pod in pods for tenant in facts.estate.tenants):
        return "move its tenants to claims", gpumem(facts, "migrate", "--to", "dra", "--node", entry.name, "--execute")
    one = min(pods, key=str)
    return f"{one} is no tenant: declare it, or end it", kubectl("delete", "pod", one.name, namespace=one.namespace)
