"""Where Terraform keeps each stack's state: one place a stack, or one apply would undo the other.

Terraform takes whatever it finds in a state for the whole truth. Two stacks on one state plan to
destroy each other's objects, so the setting that names the state must tell them apart: it holds
`{stack}`, which becomes `nvidia` or `consumers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from helpers.domain.errors import Problem
from helpers.domain.estate import Backend, Estate

PLACEHOLDER = "{stack}"

# The setting of each backend that names the state.
STATE_SETTING = {
    "local": "path",
    "s3": "key",
    "gcs": "prefix",
    "azurerm": "key",
    "http": "address",
    "kubernetes": "secret_suffix",
    "consul": "path",
    "pg": "schema_name",
}


def backend_problems(estate: Estate) -> Iterator[Problem]:
    """A backend under which two stacks would share one state."""
    backend = estate.terraform.backend
    setting = STATE_SETTING[backend.type]
    value = backend.config.get(setting)
    if backend.type == "local" and value is None:
        return  # Without a path each stack has a file of its own.
    if not isinstance(value, str) or PLACEHOLDER not in value:
        yield Problem(
            f"terraform.backend.config.{setting}",
            "" if value is None else str(value),
            f"each stack needs a state of its own, so {setting} holds {PLACEHOLDER}, which becomes the stack's name",
            f"write {setting}: gpumem-{PLACEHOLDER}" if value is None else f"put {PLACEHOLDER} into {setting}",
        )


def backend_config(backend: Backend, stack: str) -> dict[str, Any]:
    """The backend's settings for `stack`: as declared, with `{stack}` filled in wherever it stands."""
    return {key: _filled(value, stack) for key, value in backend.config.items()}


def _filled(value: Any, stack: str) -> Any:
    if isinstance(value, str):
        return value.replace(PLACEHOLDER, stack)
    if isinstance(value, dict):
        return {key: _filled(item, stack) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, stack) for item in value]
    return value
