"""One run of a helper in a stack: a `null_resource` whose triggers are all that the helper gets."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from cdktf import TerraformResource, TerraformStack

from helpers.domain.names import ENV_STEP
from helpers.rendering.objects import Step
from stacks.constructs.literal import literal

PROGRAM = "gpumem"


def helper_program() -> str:
    """What Terraform starts: `gpumem` from PATH, else the one beside this Python.

    The second makes `npx cdktf deploy` work in a clone whose environment is not activated. Neither
    is in a state or a plan, so where the program lies changes nothing there.
    """
    beside = Path(sys.executable).parent / PROGRAM
    return PROGRAM if shutil.which(PROGRAM) or not beside.exists() else str(beside.absolute())


def add_step(
    stack: TerraformStack, step: Step, depends_on: Sequence[TerraformResource], program: str
) -> TerraformResource:
    """`step` as `null_resource.<address>`, run without a shell: `gpumem <arguments> --step`.

    Terraform starts `interpreter` with `command` as its last argument, so the program itself is the
    interpreter, and no quoting rule or shell option stands between plan and helper.
    """
    resource = TerraformResource(
        stack, step.address, terraform_resource_type="null_resource", depends_on=list(depends_on)
    )
    resource.add_override("triggers", {key: literal(value) for key, value in step.triggers.items()})
    local_exec = {
        "interpreter": [program, *step.arguments],
        "command": "--step",
        # At destroy time a provisioner sees nothing but `self`.
        "environment": {ENV_STEP: "${jsonencode(self.triggers)}"},
        **({"when": "destroy"} if step.on == "destroy" else {}),
    }
    resource.add_override("provisioner", [{"local-exec": local_exec}])
    return resource
