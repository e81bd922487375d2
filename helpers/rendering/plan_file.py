"""Read what `terraform show -json` wrote of a plan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from helpers.domain.errors import InputError
from helpers.domain.plan_policy.plan import MANIFEST_TYPE, STEP_TYPE, Change, Plan

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# The format's own rule: another minor version only adds, another major one may mean something else.
FORMAT_MAJOR = "1"
_HOW = "Make it with `terraform plan -out=tfplan` and `terraform show -json tfplan`."


def load_plan(path: Path) -> Plan:
    """The plan in `path`.

    Raises:
        InputError: it cannot be read, is no plan, is of an unknown format, or Terraform did not finish it.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}. {_HOW}") from error
    except ValueError as error:
        raise InputError(f"{path}: is no JSON ({error}). {_HOW}") from error
    return parse_plan(document, str(path))


def parse_plan(document: Any, name: str) -> Plan:
    """`load_plan` on a document; `name` is how reports call it.

    Raises:
        InputError: as for `load_plan`.
    """
    if not isinstance(document, dict) or not isinstance(document.get("format_version"), str):
        raise InputError(f"{name}: has no format_version, so it is no plan in JSON. {_HOW}")
    version = document["format_version"]
    if version.partition(".")[0] != FORMAT_MAJOR:
        raise InputError(f"{name}: format_version = {version!r}: only {FORMAT_MAJOR}.x is known. {_HOW}")
    if "configuration" not in document:
        raise InputError(f"{name}: has no configuration, as the JSON of a state has none. {_HOW}")
    if document.get("errored") is True:
        raise InputError(f"{name}: errored = true: Terraform did not finish this plan. Correct that and plan again.")
    configuration = _mapping(document["configuration"])
    configured = {
        str(one.get("address")): one for one in _list(_mapping(configuration.get("root_module")), "resources")
    }
    return Plan(
        name,
        tuple(_changes(document, configured)),
        tuple(sorted(str(one.get("full_name")) for one in _mapping(configuration.get("provider_config")).values())),
        {key: _mapping(output).get("after") for key, output in _mapping(document.get("output_changes")).items()},
    )


def _changes(document: Mapping[str, Any], configured: Mapping[str, Mapping[str, Any]]) -> Iterator[Change]:
    for resource in _list(document, "resource_changes"):
        if resource.get("mode") != "managed":
            continue
        change = _mapping(resource.get("change"))
        # One configured resource may have several instances: null_resource.x[0].
        known = configured.get(f"{resource.get('type')}.{resource.get('name')}", {})
        manifest, unreadable = _manifest(resource, change)
        yield Change(
            address=str(resource.get("address")),
            type=str(resource.get("type")),
            provider=str(resource.get("provider_name")),
            actions=tuple(change.get("actions") or ()),
            before=change.get("before"),
            after=change.get("after"),
            arguments=_arguments(known) if resource.get("type") == STEP_TYPE else (),
            manifest=manifest,
            unreadable="is in a module" if resource.get("module_address") else unreadable,
            depends_on=tuple(map(str, known.get("depends_on") or ())),
        )


def _manifest(resource: Mapping[str, Any], change: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    after = change.get("after")
    if resource.get("type") != MANIFEST_TYPE or after is None:
        return None, ""
    text = after.get("yaml_body")
    if not isinstance(text, str):
        return None, "its object is known only after an apply"
    try:
        documents = [one for one in yaml.load_all(text, _Loader) if one is not None]
    except yaml.YAMLError:
        return None, "its object is no YAML"
    if len(documents) != 1 or not isinstance(documents[0], dict):
        return None, "its object is not one YAML mapping"
    return documents[0], ""


def _arguments(configured: Mapping[str, Any]) -> tuple[str, ...]:
    """What the step's provisioner runs, behind the program."""
    for provisioner in _list(configured, "provisioners"):
        interpreter = _mapping(_mapping(provisioner.get("expressions")).get("interpreter")).get("constant_value")
        if isinstance(interpreter, list):
            return tuple(map(str, interpreter[1:]))
    return ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    return [_mapping(one) for one in value.get(key) or ()]
