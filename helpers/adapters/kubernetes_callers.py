"""Callers by the API server's own word: TokenReview says who, SubjectAccessReview what they may.

`ports.leases.Callers`. Answers are kept for a short while: a heartbeat every few seconds from every
holder would otherwise be two requests to the API server each. What is not answered is never a yes.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from helpers.domain import names
from helpers.domain.leases.book import Holder
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster
from helpers.ports.leases import Caller

# A right that was taken away is still believed so long.
ALLOWED_SECONDS = 60.0
# A right that was just given is not believed so long.
DENIED_SECONDS = 5.0
_MOST_KEPT_COUNT = 4096
_SERVICE_ACCOUNT = "system:serviceaccount:"
_POD_NAME, _POD_UID = "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"

Answer = TypeVar("Answer")


class KubernetesCallers:
    """Asks `cluster`.

    Args:
        cluster: Whose tokens and rights count.
        clock: Ends what is remembered.
        audience: What the tokens must be meant for; empty: the API server itself.
        resource: The virtual resource on which rights are, `leases` or `gpujobs`.
        component: Who asks.
    """

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        *,
        audience: str = "",
        resource: str = names.LEASE_RESOURCE,
        component: str = names.COORDINATOR_COMPONENT,
    ) -> None:
        self._cluster = cluster
        self._audience = audience
        self._resource = resource
        self._component = component
        self._tokens: _Kept[Caller | None] = _Kept(clock)
        self._rights: _Kept[bool] = _Kept(clock)

    def caller(self, token: str) -> Caller | None:
        """Whose token it is. Only its hash is remembered."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        return self._tokens.get(digest, lambda: self._review(token))

    def may(self, caller: Caller, verb: str, namespace: str, tenant: str) -> bool:
        """Whether RBAC lets the caller `verb` the virtual object `<resource>.gpumem.io/<tenant>` in `namespace`.

        Without a `tenant` it is about all objects there.
        """
        key = (caller.user, caller.uid, caller.groups, verb, namespace, tenant)
        return self._rights.get(key, lambda: self._may(caller, verb, namespace, tenant))

    def _review(self, token: str) -> Caller | None:
        spec = {"token": token} | ({"audiences": [self._audience]} if self._audience else {})
        answer = self._create("authentication.k8s.io/v1", "TokenReview", spec)
        if not answer.get("authenticated"):
            return None
        # A server that knows no audiences gives none back, and then nothing says for whom the token is.
        if self._audience and self._audience not in (answer.get("audiences") or ()):
            return None
        user = answer["user"]
        extra = {key: tuple(values) for key, values in (user.get("extra") or {}).items()}
        name = str(user.get("username", ""))
        return Caller(name, str(user.get("uid", "")), tuple(user.get("groups") or ()), extra, _holder(name, extra))

    def _may(self, caller: Caller, verb: str, namespace: str, tenant: str) -> bool:
        attributes = {
            "namespace": namespace,
            "verb": verb,
            "group": names.LEASE_GROUP,
            "resource": self._resource,
        } | ({"name": tenant} if tenant else {})
        spec = {
            "user": caller.user,
            "uid": caller.uid,
            "groups": list(caller.groups),
            "extra": {key: list(values) for key, values in caller.extra.items()},
            "resourceAttributes": attributes,
        }
        answer = self._create("authorization.k8s.io/v1", "SubjectAccessReview", spec)
        return bool(answer.get("allowed")) and not answer.get("denied")

    def _create(self, api_version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        review = {"apiVersion": api_version, "kind": kind, "metadata": {}, "spec": spec}
        answer = self._cluster.create(review, field_manager=self._component)
        status: dict[str, Any] = answer.get("status") or {}
        return status


class _Kept(Generic[Answer]):
    """Answers with an end; errors are never kept."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: dict[Hashable, tuple[float, Answer]] = {}

    def get(self, key: Hashable, ask: Callable[[], Answer]) -> Answer:
        """The answer that is kept, else that of `ask`."""
        now_seconds = self._clock.monotonic_seconds()
        with self._lock:
            kept = self._answers.get(key)
        if kept is not None and now_seconds < kept[0]:
            return kept[1]
        answer = ask()
        with self._lock:
            if len(self._answers) >= _MOST_KEPT_COUNT:
                self._answers.clear()
            self._answers[key] = (now_seconds + (ALLOWED_SECONDS if answer else DENIED_SECONDS), answer)
        return answer


def _holder(name: str, extra: dict[str, tuple[str, ...]]) -> Holder:
    namespace = name.removeprefix(_SERVICE_ACCOUNT).partition(":")[0] if name.startswith(_SERVICE_ACCOUNT) else ""
    pod, pod_uid = ("".join(extra.get(key, ())[:1]) for key in (_POD_NAME, _POD_UID))
    return Holder(user=name, namespace=namespace, pod=pod, pod_uid=pod_uid)
