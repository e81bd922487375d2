"""Stand-in for ``registry.terraform.io/hashicorp/null``: ``null_resource`` with ``triggers``.

Provisioners are Terraform's own and need nothing from a provider.
"""

from __future__ import annotations

import secrets
import sys
from typing import Any

from tf.iface import Provider, Resource
from tf.schema import Attribute, Schema
from tf.types import Map, String, Unknown

from lab.standins.serve import State, serve


class NullResource(Resource):  # type: ignore[misc]
    """Nothing but an id; changed triggers replace it, so that its provisioners run again."""

    def __init__(self, provider: NullProvider) -> None:
        self.provider = provider

    @classmethod
    def get_name(cls) -> str:
        """``null_`` + this."""
        return "resource"

    @classmethod
    def get_schema(cls) -> Schema:
        """The real provider's two attributes."""
        return Schema(
            version=0,
            attributes=[Attribute("id", String(), computed=True), Attribute("triggers", Map(String()), optional=True)],
        )

    def plan_change(self, prior: State | None, proposed: State) -> tuple[State, list[str]]:
        """A new id where there is none yet; replacement where the triggers differ."""
        if prior is None:
            return {**proposed, "id": Unknown}, []
        replaced = ["triggers"] if _set_values(prior["triggers"]) != _set_values(proposed["triggers"]) else []
        return {**proposed, "id": prior["id"]}, replaced

    def create(self, ctx: Any, planned: State) -> State:  # noqa: ARG002
        """Draws the id: a decimal number, as the real one."""
        return {**planned, "id": str(secrets.randbits(63))}

    def read(self, ctx: Any, current: State) -> State:  # noqa: ARG002
        """There is nothing outside the state."""
        return current

    def update(self, ctx: Any, current: State, planned: State) -> State:  # noqa: ARG002
        """Keeps what was planned."""
        return planned

    def delete(self, ctx: Any, current: State) -> None:
        """Forgets it."""


def _set_values(triggers: Any) -> Any:
    """Triggers without null values: a key that appears with null is no change, as in the real provider."""
    if triggers is Unknown:
        return triggers
    return {key: value for key, value in (triggers or {}).items() if value is not None}


class NullProvider(Provider):  # type: ignore[misc]
    """The provider without settings."""

    def get_model_prefix(self) -> str:
        """Prefix of every resource type."""
        return "null_"

    def get_provider_schema(self, diags: Any) -> Schema:  # noqa: ARG002
        """No settings."""
        return Schema()

    def full_name(self) -> str:
        """The address that it stands in for."""
        return "registry.terraform.io/hashicorp/null"

    def validate_config(self, diags: Any, config: State) -> None:
        """Nothing to check."""

    def configure_provider(self, diags: Any, config: State) -> None:
        """Nothing to set."""

    def get_data_sources(self) -> list[Any]:
        """None: the project uses no null data source."""
        return []

    def get_resources(self) -> list[Any]:
        """The one resource."""
        return [NullResource]


if __name__ == "__main__":
    sys.exit(serve(NullProvider()))
