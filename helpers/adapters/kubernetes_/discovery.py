"""From `apiVersion` and `kind` to the path of the API, as the server itself tells it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from helpers.adapters.kubernetes_.connection import Connection
from helpers.domain.errors import InputError, NotFound
from helpers.ports.cluster import ObjectRef


@dataclass(frozen=True)
class ResourceType:
    """A kind as the API's paths spell it."""

    plural: str
    namespaced: bool


class Discovery:
    """Kinds of an API server, each group and version asked once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[str, dict[str, ResourceType]] = {}

    def path(self, ref: ObjectRef, subresource: str = "") -> str:
        """The path of the object or, with an empty name, of the collection.

        Raises:
            NotFound: The server does not serve that kind.
            InputError: One object of a namespaced kind without its namespace.
        """
        found = self._resource_type(ref)
        parts = [_group_path(ref.api_version)]
        if found.namespaced and ref.namespace:
            parts += ["namespaces", ref.namespace]
        elif found.namespaced and ref.name:
            raise InputError(f"{ref}: a {ref.kind} lives in a namespace, and none is given")
        parts.append(found.plural)
        parts += [part for part in (ref.name, subresource) if part]
        return "/".join([parts[0], *(quote(part, safe="") for part in parts[1:])])

    def _resource_type(self, ref: ObjectRef) -> ResourceType:
        kinds = self._known.get(ref.api_version, {})
        if ref.kind not in kinds:  # never asked, or the kind came to the cluster since
            kinds = self._known[ref.api_version] = self._ask(ref)
        if ref.kind not in kinds:
            raise NotFound(
                f"{ref}: the API server at {self._connection.address} serves {ref.api_version} without a kind "
                f"{ref.kind}. Install what brings it (a CRD, an aggregated API), or correct kind and apiVersion."
            )
        return kinds[ref.kind]

    def _ask(self, ref: ObjectRef) -> dict[str, ResourceType]:
        answer = self._connection.request("GET", _group_path(ref.api_version), subject=f"discover {ref.api_version}")
        return {
            resource["kind"]: ResourceType(resource["name"], bool(resource["namespaced"]))
            for resource in answer["resources"]
            if "/" not in resource["name"]  # a subresource such as nodes/status
        }


def _group_path(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
