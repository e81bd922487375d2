"""Steps as Jobs: the command that Terraform runs, with the same input, as an account that may do just that."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from helpers.domain import names
from helpers.domain.budget import WorkloadIdentity
from helpers.domain.estate.model import Estate
from helpers.domain.rights import Right, policy_rules
from helpers.domain.step_rights import gate_rights, workload_rights
from helpers.rendering.consumers import GATE
from helpers.rendering.objects import Rendered, RenderedObject, Step, address_of
from helpers.rendering.templates import render_template

_ACCOUNTS = {
    "capacity": names.CAPACITY_SERVICE_ACCOUNT,
    "verify": names.GATE_SERVICE_ACCOUNT,
    "budget": names.BUDGET_SERVICE_ACCOUNT,
    "replicas": names.REPLICAS_SERVICE_ACCOUNT,
}
# To be scheduled, to pull the image and to answer; on top of what the step itself waits.
_JOB_SECONDS = 300
_PLAIN_LENGTH = 54


def with_step_rights(estate: Estate, rendered: Rendered) -> Rendered:
    """`rendered` with the accounts of its steps, each step after what it needs to run."""
    shared = {"namespace": estate.namespace, "labels": names.MANAGED_BY}
    objects = tuple(render_template(1, "gitops/rights.yaml.j2", accounts=list(_accounts(estate, rendered)), **shared))
    needed = {
        step.address: tuple(item.address for item in objects if item.manifest["metadata"]["name"] == _account(step))
        for step in rendered.steps
        if step.wave == 1 and step.on == "create"
    }
    steps = (dataclasses.replace(step, after=(*step.after, *needed.get(step.address, ()))) for step in rendered.steps)
    return Rendered((*rendered.objects, *objects), tuple(steps))


def step_job(estate: Estate, step: Step, *, keeps_trying: bool) -> RenderedObject:
    """`step` as a Job.

    `keeps_trying`: until the step succeeds, under a name that changes with everything in the Job, so
    that another input or image makes another Job, as another trigger makes Terraform run it again.
    Otherwise it fails at the first failure, and whoever started it starts it again.
    """
    plain = f"gpumem-{step.address.replace('_', '-')}"
    (job,) = render_template(
        step.wave,
        "gitops/job.yaml.j2",
        address=f"job-{step.address}",
        name=plain,
        estate=estate,
        labels=names.MANAGED_BY | {"app.kubernetes.io/name": _account(step)},
        keeps_trying=keeps_trying,
        deadline_seconds=wait_seconds(step) + _JOB_SECONDS,
        service_account=_account(step),
        arguments=[*step.arguments, "--step"],
        step_variable=names.ENV_STEP,
        input_json=json.dumps(dict(sorted(step.triggers.items())), separators=(",", ":")),
    )
    if not keeps_trying:
        return job
    # A Job's name is a label of its pods: 63 characters. The digest keeps shortened names apart.
    digest = hashlib.sha256(json.dumps(job.manifest, sort_keys=True).encode()).hexdigest()[:8]
    metadata = {**job.manifest["metadata"], "name": f"{plain[:_PLAIN_LENGTH].rstrip('-')}-{digest}"}
    return dataclasses.replace(job, manifest={**job.manifest, "metadata": metadata})


def wait_seconds(step: Step) -> int:
    """How long the step itself may wait."""
    return int(step.triggers.get("wait_seconds", "0"))


def _account(step: Step) -> str:
    return _ACCOUNTS[step.arguments[0]]


def _accounts(estate: Estate, rendered: Rendered) -> Iterator[dict[str, Any]]:
    """The accounts of wave 1's steps. That of wave 0's is the capacity helper's, which is rendered anyway."""
    commands = sorted({step.arguments[0] for step in rendered.wave(1).steps if step.on == "create"})
    for command in commands:
        steps = [step for step in rendered.wave(1).steps if step.on == "create" and step.arguments[0] == command]
        rights = gate_rights(estate) if command == "verify" else ()
        yield {
            "address": address_of("steps", command),
            "name": _ACCOUNTS[command],
            "cluster_rules": policy_rules(rights, "cluster"),
            "roles": [] if command == "verify" else list(_roles(rendered, command, steps)),
        }


def _roles(rendered: Rendered, command: str, steps: list[Step]) -> Iterator[dict[str, Any]]:
    own = {
        item.manifest["metadata"]["name"]: item.address for item in rendered.wave(1).objects if item.kind == "Namespace"
    }
    workloads: dict[str, list[WorkloadIdentity]] = {}
    for step in steps:
        identity = WorkloadIdentity(**{key: step.triggers[key] for key in WorkloadIdentity.model_fields})
        workloads.setdefault(identity.namespace, []).append(identity)
    for namespace in sorted(workloads):
        rights: tuple[Right, ...] = workload_rights(command, tuple(workloads[namespace]))
        yield {
            "address": address_of(f"steps-{command}", namespace),
            "namespace": namespace,
            "after": [own.get(namespace, GATE)],
            "rules": policy_rules(rights, "tenants"),
        }
