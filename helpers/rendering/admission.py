"""Wave 0: admission, by the engine that the estate's Kubernetes has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from helpers.domain import names
from helpers.domain.admission.settings import AdmissionSettings, admission_settings, resolved_engine
from helpers.domain.estate.model import Estate
from helpers.rendering import admission_cel
from helpers.rendering.admission_tenants import tenant_policy_objects
from helpers.rendering.admission_webhook import webhook_objects
from helpers.rendering.objects import RenderedObject
from helpers.rendering.templates import render_template

# A policy that concerns pods of a GPU estate; the four policies have a suffix each.
POLICY_NAME = "gpumem"


def admission_objects(estate: Estate) -> Iterator[RenderedObject]:
    """Policies, or the webhook; nothing where the estate has no block `admission`."""
    if estate.admission is None:
        return
    settings = admission_settings(estate, estate.admission)
    if resolved_engine(estate, estate.admission) == "policy":
        yield from policy_objects(settings)
        yield from tenant_policy_objects(estate)
    else:
        yield from webhook_objects(
            estate,
            settings.to_json(),
            match_conditions(settings),
            settings.excluded_namespaces,
            certificates=estate.admission.certificates,
        )


def match_conditions(settings: AdmissionSettings) -> list[dict[str, str]]:
    """Of which pods the API server asks the webhook at all."""
    return [{"name": "concerns-a-gpu", "expression": admission_cel.asked_of_the_webhook(settings)}]


def policy_objects(settings: AdmissionSettings) -> Iterator[RenderedObject]:
    """The policies and their bindings."""
    cel = admission_cel
    yield from render_template(
        0,
        "admission/policies.yaml.j2",
        name=POLICY_NAME,
        labels=names.MANAGED_BY,
        constraints=pods_outside(settings.excluded_namespaces),
        has_annotation=cel.has_annotation(settings),
        concerned=cel.concerned(settings),
        asks_for_a_gpu=cel.asks_for_a_gpu(settings),
        directory_variables=cel.directory_variables(settings),
        directory_mutation=cel.directory_mutation(settings),
        budget_variables=cel.budget_variables(settings),
        default_budget_variables=cel.default_budget_variables(settings),
        default_budgets=settings.required_budget == "default" and settings.default_budgets,
        default_budget_condition=cel.default_budget_condition(settings),
        default_budget_mutation=cel.default_budget_mutation(settings),
        validations={"deny": cel.denials(settings), "warn": cel.warnings(settings)},
    )


def pods_outside(namespaces: tuple[str, ...]) -> dict[str, Any]:
    """matchConstraints: pods at creation, in every namespace but these."""
    return {
        "matchPolicy": "Equivalent",
        "namespaceSelector": {
            "matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": list(namespaces)}
            ]
        },
        "objectSelector": {},
        "resourceRules": [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "resources": ["pods"],
                "operations": ["CREATE"],
                "scope": "Namespaced",
            }
        ],
    }
