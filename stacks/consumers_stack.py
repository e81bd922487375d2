"""Wave 1: the tenants, behind the gate."""

from __future__ import annotations

from pathlib import Path

from cdktf import TerraformOutput, TerraformStack
from constructs import Construct

from helpers.domain.estate.model import Estate
from helpers.domain.ledger import build_ledger
from helpers.domain.plan_policy.plan import SEATED_OUTPUT
from helpers.rendering.objects import Rendered
from stacks.constructs.backend import add_backend
from stacks.constructs.composition import compose
from stacks.constructs.providers import add_providers

NAME = "consumers"


class ConsumersStack(TerraformStack):
    """PriorityClasses, namespaces, quotas and tenants; nothing of it before the nodes show their numbers."""

    def __init__(self, scope: Construct, estate: Estate, rendered: Rendered, estate_file: Path, program: str) -> None:
        super().__init__(scope, NAME)
        add_backend(self, NAME, estate.terraform.backend, estate_file)
        add_providers(self, estate.terraform)
        compose(self, rendered.wave(1), program)
        TerraformOutput(
            self,
            "budgets_mib",
            value={tenant.name: tenant.budget_mib for tenant in estate.tenants},
            description="MiB that one pod of each tenant may use",
        )
        TerraformOutput(
            self,
            SEATED_OUTPUT,
            value={entry.node.name: entry.always_on_mib for entry in build_ledger(estate).nodes},
            description="MiB that always-on tenants hold, by node entry: what a plan check compares with the capacity",
        )
