"""All rules in one list: what doctor finds is what they find, and nothing else is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from helpers.domain.doctor import cards, guards, nodes, objects, pods, workloads
from helpers.domain.doctor.facts import DoctorFacts
from helpers.domain.doctor.finding import Finding, in_order

Rule = Callable[[DoctorFacts], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    nodes.server_version,
    nodes.node_there,
    nodes.capacity,
    nodes.shares,
    nodes.overcommitted,
    nodes.taints,
    nodes.plugin_config_selected,
    cards.offered,
    cards.number_beside_claims,
    cards.budgets_mixed,
    objects.objects,
    objects.capacity_jobs,
    guards.exporters,
    guards.guards,
    guards.dry_run,
    guards.webhook,
    workloads.workloads,
    workloads.needs,
    pods.uncounted,
    pods.refused,
    pods.waiting,
)


def diagnose(facts: DoctorFacts) -> tuple[Finding, ...]:
    """Every fault that the rules find, errors first."""
    return in_order([finding for rule in RULES for finding in rule(facts)])
