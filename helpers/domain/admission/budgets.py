"""Required budgets: who asks for a GPU declares memory, no more than a card has, and shares are turns."""

from __future__ import annotations

from collections.abc import Iterator

from helpers.domain.admission import messages, pods
from helpers.domain.admission.claims import has_claim
from helpers.domain.admission.decision import Applied, Pod, PodRequest
from helpers.domain.admission.settings import AdmissionSettings
from helpers.domain.quantity import canonical_count


def asks_for_a_gpu(pod: Pod, settings: AdmissionSettings) -> bool:
    """Whether the pod wants a card: by a resource that the device plugin offers, or by the annotation."""
    text = pods.annotations_of(pod).get(settings.annotation)
    others = settings.other_set_names()
    by_annotation = text is not None and any(entry.strip() not in others for entry in text.split(";"))
    return by_annotation or pods.asks_for(pod, settings.gpu_resources)


def lacks_budget(pod: Pod, settings: AdmissionSettings) -> bool:
    """Whether it wants a card and declares no memory, by number or by claim; a declared 0 is none."""
    declared = pods.pod_amount(pod, settings.resource) > 0 or (settings.claims and has_claim(pod))
    return asks_for_a_gpu(pod, settings) and not declared


def budget_denials(pod: Pod, request: PodRequest, settings: AdmissionSettings) -> Iterator[str]:
    """Why the pod's budget cannot stand; `pod` is the pod as it will be."""
    if settings.required_budget in ("deny", "default") and lacks_budget(pod, settings):
        yield messages.missing_budget(settings).substitute(namespace=request.namespace)
    declared_mib = pods.pod_amount(pod, settings.resource)
    if declared_mib > settings.largest_card_mib:
        yield messages.above_card(settings).substitute(declared_mib=declared_mib)


def budget_warnings(pod: Pod, settings: AdmissionSettings) -> Iterator[str]:
    """What a pod's author should know; `pod` is the pod as it will be."""
    if settings.required_budget == "warn" and lacks_budget(pod, settings):
        yield messages.missing_budget(settings).substitute()
    for name in settings.shared_resources:
        if any(pods.amount(container, name) > 1 for _, _, container in pods.containers(pod)):
            yield messages.one_share(settings, name).substitute()


def apply_default_budget(pod: Pod, request: PodRequest, settings: AdmissionSettings) -> tuple[Pod, list[Applied]]:
    """The namespace's default for a pod that lacks a budget, in the first container that asks for a GPU."""
    budget_mib = settings.default_budgets.get(request.namespace)
    if settings.required_budget != "default" or budget_mib is None or not lacks_budget(pod, settings):
        return pod, []
    pod = pods.copied(pod)
    listed = pod["spec"].get("containers")
    if not listed:
        return pod, []  # The API server refuses it.
    asking = [c for c in listed if any(name in pods.limits(c) for name in settings.gpu_resources)]
    container = (asking or listed)[0]
    pods.set_limit(container, settings.resource, canonical_count(budget_mib))
    text = f"container {container.get('name')}: {settings.resource} {budget_mib}, the default of {request.namespace}"
    return pod, [Applied("default-budget", text)]
