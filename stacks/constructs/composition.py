"""Objects and steps of one wave into a stack, each depending on what it comes after."""

from __future__ import annotations

from cdktf import TerraformResource, TerraformStack

from helpers.rendering.objects import Rendered, RenderedObject
from stacks.constructs.manifest import add_manifest
from stacks.constructs.step import add_step


def compose(stack: TerraformStack, rendered: Rendered, program: str) -> dict[str, TerraformResource]:
    """Add everything in `rendered` (one wave) to `stack`; returns `{address: resource}`.

    `program` is what the steps start.
    """
    added: dict[str, TerraformResource] = {}
    for item in rendered.ordered():
        depends_on = [added[address] for address in item.after]
        if isinstance(item, RenderedObject):
            added[item.address] = add_manifest(stack, item, depends_on)
        else:
            added[item.address] = add_step(stack, item, depends_on, program)
    return added
