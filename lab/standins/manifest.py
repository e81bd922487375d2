"""What the kubectl stand-in knows about a manifest without asking a cluster: parsing, field prints, identity.

Pure. The field print is the drift engine of ``alekc/kubectl`` 2.x: it takes the *keys* from the manifest and the
*values* from the live object, so a field that the manifest does not name never drifts, and a value that the server
spells another way (``5000`` stored as ``5k``) does not drift either: it is printed as stored at both ends.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

import yaml

from lab.standins.failure import Failure

JsonObject = dict[str, Any]

SERVER_OWNED_FIELDS = (
    "status",
    "metadata.finalizers",
    "metadata.initializers",
    "metadata.ownerReferences",
    "metadata.creationTimestamp",
    "metadata.generation",
    "metadata.resourceVersion",
    "metadata.uid",
    "metadata.annotations.kubectl.kubernetes.io/last-applied-configuration",
    "metadata.managedFields",
)
"""Fields whose drift is never the author's; left out of every print, with everything under them."""

HIDDEN_VALUE = "(sensitive value)"


class _Loader(yaml.SafeLoader):
    """YAML as Go's yaml.v2 reads it into untyped values: dates stay strings, base-60 numbers do not exist."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] not in {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int"}]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^(?:[-+]?0b[01_]+|[-+]?0[0-7_]*|[-+]?[1-9][0-9_]*|[-+]?0x[0-9a-fA-F_]+)$"),
    list("-+0123456789"),
)


class _Dumper(yaml.SafeDumper):
    """Writes texts as Go's YAML does, so that a plan shows the same manifest with either provider."""


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Lines as a block, double quotes around what would read as another type, the emitter's choice for the rest."""
    tag = dumper.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    style = "|" if "\n" in text else None if tag == "tag:yaml.org,2002:str" and text.lower() not in {"y", "n"} else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _write_text)


@dataclass(frozen=True)
class Identity:
    """What makes two manifests the same object; any change replaces the resource."""

    api_version: str
    kind: str
    name: str
    namespace: str
    """Empty where the manifest names none."""

    @property
    def path_id(self) -> str:
        """The resource's id: a self link made from the kind (the server's own went away with Kubernetes 1.20)."""
        root = "/api" if self.api_version == "v1" else "/apis"
        plural = self.kind.lower() + ("es" if self.kind.endswith("s") else "s")
        namespace = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"{root}/{self.api_version}{namespace}/{plural}/{self.name}"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def parse(yaml_body: str) -> JsonObject:
    """The one object in ``yaml_body``.

    Raises:
        Failure: no YAML, not exactly one object, or no kind, apiVersion or name.
    """
    try:
        documents = [document for document in yaml.load_all(yaml_body, _Loader) if document is not None]
        found = json.loads(json.dumps(documents))
    except (yaml.YAMLError, TypeError, ValueError) as exc:
        raise Failure("yaml_body is not a manifest", f"yaml_body must be YAML of one object: {exc}") from exc
    if len(found) != 1 or not isinstance(found[0], dict):
        raise Failure("yaml_body is not a manifest", f"yaml_body must hold one object, it holds {len(found)}")
    manifest: JsonObject = found[0]
    metadata = manifest.get("metadata")
    missing = [key for key in ("apiVersion", "kind") if not manifest.get(key)]
    if not isinstance(metadata, dict) or not metadata.get("name"):
        missing.append("metadata.name")
    if missing:
        raise Failure("yaml_body is not a manifest", f"yaml_body must set {', '.join(missing)}")
    return manifest


def identity(manifest: JsonObject) -> Identity:
    """Who the object is."""
    metadata = manifest["metadata"]
    return Identity(
        str(manifest["apiVersion"]), str(manifest["kind"]), str(metadata["name"]), str(metadata.get("namespace") or "")
    )


def readable(manifest: JsonObject) -> str:
    """The manifest as a plan shows it: keys sorted, the values of a Secret hidden."""
    shown = json.loads(json.dumps(manifest))
    if identity(manifest).kind == "Secret" and identity(manifest).api_version == "v1":
        shown.update({field: HIDDEN_VALUE for field in ("data", "stringData") if field in shown})
    return yaml.dump(shown, Dumper=_Dumper, sort_keys=True, allow_unicode=True)


def flatten(thing: JsonObject) -> dict[str, str]:
    """``{dotted path: text}`` of every leaf; a list also has ``path.#``, its length."""
    flat: dict[str, str] = {}

    def walk(path: str, value: object) -> None:
        if isinstance(value, dict):
            for key, below in value.items():
                walk(f"{path}.{key}", below)
        elif isinstance(value, list):
            flat[f"{path}.#"] = str(len(value))
            for index, below in enumerate(value):
                walk(f"{path}.{index}", below)
        else:
            flat[path] = _text(value)

    for key, value in thing.items():
        if key and value is not None:
            walk(key, value)
    return flat


def field_print(manifest: JsonObject, live: JsonObject, ignore_fields: list[str]) -> str:
    """One line per field that the manifest names and the live object has: ``path=sha256 of the live value``."""
    wanted = flatten(_with_string_data_encoded(manifest))
    held = flatten(live)
    trimmed = (*SERVER_OWNED_FIELDS, *ignore_fields)
    keys = sorted(
        key
        for key in wanted
        if key in held and not any(key == field or key.startswith(f"{field}.") for field in trimmed)
    )
    return "\n".join(f"{key}={hashlib.sha256(held[key].strip().encode()).hexdigest()}" for key in keys)


def _with_string_data_encoded(manifest: JsonObject) -> JsonObject:
    """A Secret's ``stringData`` as the ``data`` that the server makes of it, else it would look absent for ever."""
    text = manifest.get("stringData")
    if manifest.get("kind") != "Secret" or manifest.get("apiVersion") != "v1" or not isinstance(text, dict):
        return manifest
    encoded = {key: base64.b64encode(_text(value).encode()).decode() for key, value in text.items()}
    rest = {key: value for key, value in manifest.items() if key != "stringData"}
    return {**rest, "data": {**(rest.get("data") or {}), **encoded}}


def _text(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return str(value)
