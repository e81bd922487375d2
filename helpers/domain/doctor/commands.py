"""The commands that findings print: as a person would type them, and as the tests run them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from helpers.domain import names
from helpers.domain.doctor.facts import DoctorFacts, ObjectName
from helpers.domain.estate.gitops import GitOps


def gpumem(facts: DoctorFacts, *words: str) -> str:
    """A command of our own on the estate at hand."""
    return shlex.join(["gpumem", *words, "-f", facts.estate_file])


def apply_objects(facts: DoctorFacts, *objects: ObjectName) -> str:
    """Puts rendered objects back as Terraform would: by the same field manager, so that its next plan is empty.

    Where Git delivers, the engine is asked to do it: what is applied past it lacks what it marks its objects with.
    """
    if facts.estate.gitops is not None:
        return _deliver_again(facts, facts.estate.gitops)
    only = [word for one in objects for word in ("--only", _path(one))]
    applied = f"kubectl apply --server-side --force-conflicts --field-manager={names.FIELD_MANAGER_TERRAFORM} -f -"
    return f"{gpumem(facts, 'render', '--stdout', *only)} | {applied}"


def _deliver_again(facts: DoctorFacts, gitops: GitOps) -> str:
    if gitops.engine == "flux":
        kind, asked = "kustomizations.kustomize.toolkit.fluxcd.io", "reconcile.fluxcd.io/requestedAt"
        value = f"{facts.now_at:%Y-%m-%dT%H:%M:%SZ}"
    else:
        kind, asked, value = "applications.argoproj.io", "argocd.argoproj.io/refresh", "hard"
    chosen = names.label_selector(names.MANAGED_BY)
    words = ("annotate", kind, "-l", chosen, f"{asked}={value}", "--overwrite")
    return kubectl(*words, namespace=gitops.own_namespace())


def kubectl(*words: str, namespace: str = "") -> str:
    """A kubectl command."""
    return shlex.join(["kubectl", *(["-n", namespace] if namespace else []), *words])


def kubectl_patch(target: ObjectName, patch: Any, *, how: str = "merge", subresource: str = "") -> str:
    """A patch of one object, or of its `subresource`."""
    text = json.dumps(patch, separators=(",", ":"))
    part = [f"--subresource={subresource}"] if subresource else []
    words = ("patch", target.kind.lower(), target.name, f"--type={how}", *part, "-p", text)
    return kubectl(*words, namespace=target.namespace)


def both(commands: Sequence[str]) -> str:
    """One after the other, as long as each succeeds."""
    return " && ".join(commands)


def _path(one: ObjectName) -> str:
    return "/".join(part for part in (one.kind, one.namespace, one.name) if part)
