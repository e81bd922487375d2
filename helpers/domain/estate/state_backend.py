"""Where Terraform keeps each stack's state: one place a stack, locked, or one apply would undo the other.

Terraform takes whatever it finds in a state for the whole truth. Two stacks on one state plan to
destroy each other's objects, so the setting that names the state must tell them apart: it holds
`{stack}`, which becomes `nvidia` or `consumers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from helpers.domain.errors import Problem
from helpers.domain.estate.model import Backend, Estate

PLACEHOLDER = "{stack}"

# What each remote backend needs before two applies exclude each other; local and the rest always lock.
_LOCK_SETTINGS = {"s3": ("use_lockfile", "dynamodb_table"), "http": ("lock_address",)}

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
    """A backend under which two stacks would share one state, or two applies at once would not exclude each other."""
    yield from _one_state_a_stack(estate.terraform.backend)
    yield from _locked(estate.terraform.backend)


def _one_state_a_stack(backend: Backend) -> Iterator[Problem]:
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


def _locked(backend: Backend) -> Iterator[Problem]:
    path = "terraform.backend.config"
    wanted = _LOCK_SETTINGS.get(backend.type, ())
    if wanted and not any(backend.config.get(setting) for setting in wanted):
        rule = f"backend {backend.type} does not lock its state unless {' or '.join(wanted)} is set"
        value = "true" if wanted[0].startswith("use_") else "…"
        yield Problem(path, backend.type, rule, f"add {wanted[0]}: {value}")
    if backend.config.get("lock") is False:
        rule = "two applies at once must exclude each other, so the state is locked"
        yield Problem(f"{path}.lock", "false", rule, "remove lock: false")


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
