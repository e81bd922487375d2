"""One Kubernetes object in a stack: the generic `kubectl_manifest` (ADR 0002)."""

from __future__ import annotations

from collections.abc import Sequence

from cdktf import TerraformResource, TerraformStack

from helpers.domain.names import FIELD_MANAGER_TERRAFORM
from helpers.rendering.manifest_yaml import to_yaml
from helpers.rendering.objects import RenderedObject
from stacks.constructs.literal import literal


def add_manifest(
    stack: TerraformStack, item: RenderedObject, depends_on: Sequence[TerraformResource]
) -> TerraformResource:
    """`item` as `kubectl_manifest.<address>`: a construct right under its stack has its id as address."""
    resource = TerraformResource(
        stack, item.address, terraform_resource_type="kubectl_manifest", depends_on=list(depends_on)
    )
    resource.add_override("yaml_body", literal(to_yaml(item.manifest)))
    resource.add_override("server_side_apply", True)
    resource.add_override("field_manager", FIELD_MANAGER_TERRAFORM)
    # force_conflicts stays off: everything applied here is ours, so a conflict is news, not noise.
    # A tenant that does not fit stays Pending, and must not hang the apply.
    resource.add_override("wait_for_rollout", False)
    if item.retain:
        resource.add_override("apply_only", True)
    return resource
