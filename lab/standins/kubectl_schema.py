"""The schema of the kubectl stand-in: the attributes that the project uses, with the real provider's defaults."""

from __future__ import annotations

from typing import Any

from tf.schema import Attribute, Schema
from tf.types import Bool, List, Number, String

DEFAULTS: dict[str, Any] = {
    "apply_only": False,
    "field_manager": "kubectl",
    "force_conflicts": False,
    "force_new": False,
    "server_side_apply": False,
    "upgrade_api_version": False,
    "validate_schema": True,
    "wait_for_rollout": True,
}
"""Optional attributes with a value of their own where the configuration leaves them out."""

COMPUTED = (
    "id",
    "uid",
    "live_uid",
    "yaml_incluster",
    "live_manifest_incluster",
    "api_version",
    "kind",
    "name",
    "namespace",
    "yaml_body_parsed",
)
"""What the provider works out."""

SENSITIVE = frozenset({"yaml_body", "yaml_incluster", "live_manifest_incluster"})


def manifest_schema() -> Schema:
    """``kubectl_manifest``; version 1 as the real 2.x has it, so that either can read the other's state."""
    computed = [Attribute(name, String(), computed=True, sensitive=name in SENSITIVE) for name in COMPUTED]
    types = {name: String() if isinstance(value, str) else Bool() for name, value in DEFAULTS.items()}
    optional = [Attribute(name, of_type, optional=True) for name, of_type in types.items()]
    return Schema(
        version=1,
        attributes=[
            *computed,
            *optional,
            Attribute("yaml_body", String(), required=True, sensitive=True),
            Attribute("ignore_fields", List(String()), optional=True),
            Attribute("wait", Bool(), optional=True),
        ],
    )


def provider_schema() -> Schema:
    """The provider block."""
    texts = ("host", "cluster_ca_certificate", "client_certificate", "config_path", "config_context")
    secrets = ("token", "client_key")
    flags = ("insecure", "load_config_file", "lazy_load")
    return Schema(
        attributes=[
            *(Attribute(name, String(), optional=True) for name in texts),
            *(Attribute(name, String(), optional=True, sensitive=True) for name in secrets),
            *(Attribute(name, Bool(), optional=True) for name in flags),
            Attribute("apply_retry_count", Number(), optional=True),
        ]
    )
