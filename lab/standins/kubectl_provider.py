"""Stand-in for ``registry.terraform.io/alekc/kubectl`` (2.x): ``kubectl_manifest`` by server-side apply.

Agrees with 2.4.1 on what the project rests on; the differences are: no client-side apply, no takeover of fields
from an earlier client-side ``kubectl apply``, no ``wait_for``, ``sensitive_fields``, ``override_namespace`` and
``timeouts``, more than one document in ``yaml_body`` is an error, and conflicts and refusals are not tried again.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from tf.iface import Provider, Resource
from tf.schema import Schema
from tf.types import Unknown

from lab.standins.cluster import Cluster, KindNotServed
from lab.standins.connection import Connection
from lab.standins.failure import Failure
from lab.standins.kubectl_schema import COMPUTED, DEFAULTS, manifest_schema, provider_schema
from lab.standins.manifest import Identity, JsonObject, field_print, identity, parse, readable
from lab.standins.rollout import settled
from lab.standins.serve import State, report, serve, stopping

OPERATION_TIMEOUT_SECONDS = 600.0
POLL_SECONDS = 0.25
RETRY_SECONDS = 3.0
ONLY_SERVER_SIDE = (
    "server_side_apply must be true: this stand-in of the lab has server-side apply only. Set it to true, or "
    " make the real alekc/kubectl provider reachable for terraform init."
)


def _reported(on_failure: Callable[..., State | None]) -> Callable[[Any], Any]:
    """Turns a Failure of a resource method into a diagnostic; ``on_failure`` says what the state is then."""

    def wrap(method: Any) -> Any:
        @functools.wraps(method)
        def guarded(self: Any, ctx: Any, *states: State) -> State | None:
            try:
                result: State | None = method(self, ctx, *states)
            except Failure as failure:
                report(ctx.diagnostics, failure)
                return on_failure(*states)
            return result

        return guarded

    return wrap


class KubectlManifest(Resource):  # type: ignore[misc]
    """One Kubernetes object."""

    def __init__(self, provider: KubectlProvider) -> None:
        self.provider = provider

    @classmethod
    def get_name(cls) -> str:
        """``kubectl_`` + this."""
        return "manifest"

    @classmethod
    def get_schema(cls) -> Schema:
        """The attributes in use."""
        return manifest_schema()

    def validate(self, diags: Any, type_name: str, config: State) -> None:  # noqa: ARG002
        """What can be said before a plan: only server-side apply, and a manifest that parses."""
        if config.get("server_side_apply") in (None, False):
            report(diags, Failure("client-side apply asked for", ONLY_SERVER_SIDE, attribute="server_side_apply"))

    def plan_change(self, prior: State | None, proposed: State) -> tuple[State, list[str]]:
        """Needs no cluster: drift is what the last read wrote into the state."""
        planned = _with_defaults(proposed)
        if prior is None:
            planned.update(dict.fromkeys(COMPUTED, Unknown))
        if planned["yaml_body"] is Unknown:
            planned.update(yaml_body_parsed=Unknown, yaml_incluster=Unknown)
            return planned, []
        try:
            manifest = parse(planned["yaml_body"])
        except Failure as failure:
            failure.attribute = "yaml_body"
            raise
        who = identity(manifest)
        planned.update(api_version=who.api_version, kind=who.kind, name=who.name, yaml_body_parsed=readable(manifest))
        planned["namespace"] = who.namespace or (None if prior else Unknown)
        if prior is None:
            return planned, []
        if prior["uid"] != prior["live_uid"]:
            planned["uid"] = Unknown
        elif prior["yaml_incluster"] != prior["live_manifest_incluster"]:
            planned["yaml_incluster"] = Unknown
        return planned, _replaced(prior, planned)

    @_reported(lambda planned: None)  # noqa: ARG005
    def create(self, ctx: Any, planned: State) -> State | None:
        """Applies; an object that then does not roll out is kept in the state as tainted."""
        return self._apply(ctx, planned)

    @_reported(lambda current, planned: {**planned, **{k: current[k] for k in COMPUTED if planned[k] is Unknown}})
    def update(self, ctx: Any, current: State, planned: State) -> State | None:  # noqa: ARG002
        """Applies. After a failure the state holds the *planned* manifest, as the real provider leaves it."""
        return self._apply(ctx, planned)

    @_reported(lambda current: current)
    def read(self, ctx: Any, current: State) -> State | None:  # noqa: ARG002
        """Notes the live object; None (to be created) only where the server says that it is not there."""
        manifest = parse(current["yaml_body"])
        who = identity(manifest)
        try:
            live = self.provider.cluster.get(who)
        except KindNotServed:
            return None
        if live is None:
            return None
        printed = self._print(manifest, live, current)
        return {**current, "live_uid": live["metadata"]["uid"], "live_manifest_incluster": printed}

    @_reported(lambda current: current)
    def delete(self, ctx: Any, current: State) -> State | None:  # noqa: ARG002
        """Deletes unless ``apply_only``; an absent object is fine; ``wait`` waits for finalizers."""
        if current["apply_only"]:
            return None
        who = identity(parse(current["yaml_body"]))
        present = self.provider.cluster.delete(who, foreground=bool(current["wait"]))
        if present and current["wait"]:
            uid = current["live_uid"]
            self._wait(lambda live: live is None or live["metadata"]["uid"] != uid, who, "is still being deleted")
        return None

    def import_(self, ctx: Any, id: str) -> State | None:  # noqa: A002
        """Takes over ``apiVersion//Kind//name//namespace`` (without the last part: cluster scope)."""
        try:
            return self._imported(id)
        except Failure as failure:
            report(ctx.diagnostics, failure)
            return None

    def _apply(self, ctx: Any, planned: State) -> State:
        manifest = parse(planned["yaml_body"])
        who = identity(manifest)
        if not planned["server_side_apply"]:
            raise Failure("client-side apply asked for", ONLY_SERVER_SIDE, attribute="server_side_apply")
        live = self._apply_with_retries(who, manifest, planned)
        printed, uid = self._print(manifest, live, planned), live["metadata"]["uid"]
        state = {
            **planned,
            "id": _with_default_namespace(who, live).path_id,
            "namespace": who.namespace or None,
            "api_version": who.api_version,
            "kind": who.kind,
            "name": who.name,
            "yaml_body_parsed": readable(manifest),
            "uid": uid,
            "live_uid": uid,
            "yaml_incluster": printed,
            "live_manifest_incluster": printed,
        }
        if planned["wait_for_rollout"]:
            try:
                self._wait(lambda now: now is not None and settled(now), who, "has not rolled out")
            except Failure as failure:
                report(ctx.diagnostics, failure)
        return state

    def _apply_with_retries(self, who: Identity, manifest: JsonObject, planned: State) -> JsonObject:
        """Tries what may pass again (a CRD that is just being served), as often as the provider block says."""
        left, pause_seconds = self.provider.connection.retry_count, RETRY_SECONDS
        cluster, manager = self.provider.cluster, planned["field_manager"]
        while True:
            try:
                return cluster.apply(who, manifest, manager, force=bool(planned["force_conflicts"]))
            except Failure as failure:
                if not failure.passing or left <= 0 or stopping.wait(pause_seconds):
                    raise
                left, pause_seconds = left - 1, min(pause_seconds * 1.5, 30.0)

    def _wait(self, done: Callable[[JsonObject | None], bool], who: Identity, complaint: str) -> None:
        """Until the live object is as wanted.

        Raises:
            Failure: it took too long, or Terraform was stopped.
        """
        until = time.monotonic() + OPERATION_TIMEOUT_SECONDS
        while not done(self.provider.cluster.get(who)):
            if stopping.wait(POLL_SECONDS):
                raise Failure(f"{who} {complaint}", "stopped while waiting; run apply again to go on waiting")
            if time.monotonic() > until:
                seconds = int(OPERATION_TIMEOUT_SECONDS)
                advice = f"gave up after {seconds} s; kubectl describe {who.kind} {who.name} says why"
                raise Failure(f"{who} {complaint}", advice)

    def _print(self, manifest: JsonObject, live: JsonObject, state: State) -> str:
        if "namespace" in live["metadata"]:
            manifest = {**manifest, "metadata": {**manifest["metadata"], "namespace": live["metadata"]["namespace"]}}
        return field_print(manifest, live, list(state["ignore_fields"] or []))

    def _imported(self, given: str) -> State:
        parts = given.split("//")
        if len(parts) not in (3, 4):
            raise Failure("cannot import", f"{given}: expected apiVersion//Kind//name//namespace")
        who = Identity(parts[0], parts[1], parts[2], parts[3] if len(parts) == 4 else "")
        live = self.provider.cluster.get(who)
        if live is None:
            raise Failure("cannot import", f"{given}: the cluster has no such object")
        uid, printed = live["metadata"]["uid"], field_print(live, live, [])
        for field in ("creationTimestamp", "resourceVersion", "uid", "managedFields"):
            live["metadata"].pop(field, None)
        unset: State = {attribute.name: None for attribute in manifest_schema().attributes}
        return {
            **_with_defaults(unset),
            "id": _with_default_namespace(who, live).path_id,
            "yaml_body": readable(live),
            "yaml_body_parsed": readable(live),
            "api_version": who.api_version,
            "kind": who.kind,
            "name": who.name,
            "namespace": who.namespace or None,
            "uid": uid,
            "live_uid": uid,
            "yaml_incluster": printed,
            "live_manifest_incluster": printed,
        }


def _with_defaults(state: State) -> State:
    return {name: DEFAULTS.get(name) if value is None else value for name, value in state.items()}


def _with_default_namespace(who: Identity, live: JsonObject) -> Identity:
    return Identity(who.api_version, who.kind, who.name, live["metadata"].get("namespace") or "")


def _replaced(prior: State, planned: State) -> list[str]:
    """The attributes whose change makes it another object."""
    watched = ["kind", "name", "namespace"]
    if not planned["upgrade_api_version"]:
        watched.append("api_version")
    if planned["force_new"]:
        watched.append("yaml_body")
    return [name for name in watched if (prior[name] or None) != (planned[name] or None)]


class KubectlProvider(Provider):  # type: ignore[misc]
    """The provider block and the one resource."""

    def __init__(self) -> None:
        self.connection = Connection()
        self.cluster = Cluster(self.connection)

    def get_model_prefix(self) -> str:
        """Prefix of every resource type."""
        return "kubectl_"

    def get_provider_schema(self, diags: Any) -> Schema:  # noqa: ARG002
        """The settings that the project uses."""
        return provider_schema()

    def full_name(self) -> str:
        """The address that it stands in for."""
        return "registry.terraform.io/alekc/kubectl"

    def validate_config(self, diags: Any, config: State) -> None:
        """All settings are optional; what they lead to is checked when they are used."""

    def configure_provider(self, diags: Any, config: State) -> None:
        """Resolves the settings; connects to nothing. ``lazy_load`` puts even the file check off to the first call."""
        self.connection = Connection.resolve(config, os.environ)
        self.cluster = Cluster(self.connection)
        try:
            if not self.connection.lazy_load:
                self.connection.check()
        except Failure as failure:
            report(diags, failure)

    def get_data_sources(self) -> list[Any]:
        """None: the project uses no kubectl data source."""
        return []

    def get_resources(self) -> list[Any]:
        """The one resource."""
        return [KubectlManifest]


if __name__ == "__main__":
    sys.exit(serve(KubectlProvider()))
