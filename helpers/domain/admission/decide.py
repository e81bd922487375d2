"""Everything that admission has to say about one pod, in the one order that both engines keep."""

from __future__ import annotations

from helpers.domain.admission import pods
from helpers.domain.admission.budgets import apply_default_budget, budget_denials, budget_warnings
from helpers.domain.admission.decision import Applied, Decision, Pod, PodRequest
from helpers.domain.admission.directories import apply_directories, directory_denials, directory_warnings
from helpers.domain.admission.settings import AdmissionSettings
from helpers.domain.admission.tenant_rules import apply_tenant_rule, matches


def decide(pod: Pod, request: PodRequest, settings: AdmissionSettings) -> Decision:
    """The pod as it shall be, or why not.

    The same pod, request and settings give the same answer, and a pod that went through once goes
    through again unchanged. Nothing of `pod` is written to.

    Args:
        pod: As the API server shows it at creation; from a file, as `kubectl` would send it.
        request: What the API server says besides.
        settings: The estate's document.
    """
    if request.namespace in settings.excluded_namespaces:
        return Decision(pod, applied=(Applied("excluded", f"pods of namespace {request.namespace} are not looked at"),))
    denials = list(directory_denials(pod, request, settings))
    changed, applied = (pod, []) if denials else apply_directories(pod, settings)
    changed, done = _apply_tenants(changed, request, settings)
    applied += done
    changed, defaulted = apply_default_budget(changed, request, settings)
    applied += defaulted
    denials += budget_denials(changed, request, settings)
    if denials:
        return Decision(pod, denials=tuple(denials), applied=tuple(Applied("denied", text) for text in denials))
    warnings = (*directory_warnings(changed, settings), *budget_warnings(changed, settings))
    return Decision(changed, warnings=warnings, applied=tuple(applied))


def _apply_tenants(pod: Pod, request: PodRequest, settings: AdmissionSettings) -> tuple[Pod, list[Applied]]:
    applied: list[Applied] = []
    labels = pods.labels_of(pod)
    for rule in settings.tenants:
        if matches(rule, request.namespace, labels):
            pod, texts = apply_tenant_rule(pod, rule)
            applied += [Applied("tenant", text) for text in texts]
    return pod, applied
