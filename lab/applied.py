"""An estate on a lab as Terraform would leave it: objects in their order, the steps between them run by our own CLI."""

from __future__ import annotations

import json
import os
from unittest import mock

from helpers.adapters.kubernetes_ import connect
from helpers.apps.cli import __main__ as cli
from helpers.domain import names
from helpers.domain.estate.model import Estate
from helpers.rendering.objects import Step
from helpers.rendering.render import render
from lab.cluster import Lab
from lab.errors import LabError
from lab.foreign import create_foreign_workloads


def apply_estate(lab: Lab, estate: Estate) -> None:
    """Foreign workloads as their owners would install them, then everything that the estate renders.

    Raises:
        LabError: a step failed.
    """
    create_foreign_workloads(lab.api(), estate)
    cluster = connect(lab.kubeconfig)
    for item in render(estate).ordered():
        if isinstance(item, Step):
            _run(lab, item)
        else:
            cluster.apply(item.manifest, field_manager=names.FIELD_MANAGER_TERRAFORM)


def _run(lab: Lab, step: Step) -> None:
    if step.on != "create":
        return
    told = {"KUBECONFIG": str(lab.kubeconfig), names.ENV_STEP: json.dumps(dict(step.triggers))}
    with mock.patch.dict(os.environ, told):
        code = cli.run([*step.arguments, "--step"])
    if code:
        raise LabError(f"step {step.address} (gpumem {' '.join(step.arguments)}) ended with {code}")
