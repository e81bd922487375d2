"""An AdmissionReview in, an AdmissionReview out: the webhook's part around the rules.

Whatever comes in, something goes out that an API server can show to whoever made the pod. What is no
review at all is refused by HTTP; what is one, and not for us, is denied in its own form; and where the
rules themselves fail, the pod is denied with a text that says whose fault it is.
"""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NoReturn

from helpers.domain import names
from helpers.domain.admission.decision import Decision, Pod, PodRequest, PodSecurityLevel
from helpers.domain.admission.json_patch import json_patch
from helpers.domain.admission.webhook import LEVEL_BY_PATH
from helpers.ports.clock import Clock
from helpers.ports.injector_metrics import InjectorMetrics
from helpers.ports.log import Log
from helpers.ports.webhook import Reply

API_VERSION = "admission.k8s.io/v1"
POD = {"group": "", "version": "v1", "kind": "Pod"}
# invalid: no review, or one of something else. failed: the rules raised, which is a fault of ours.
OUTCOMES = ("allowed", "changed", "denied", "invalid", "failed")
LONGEST_REASON = 300

# They write nothing into the pod that they are given: a change made in place could not be told from the pod.
Rules = Callable[[Pod, PodRequest], Decision]


class BadRequest(Exception):
    """What came is no review; the text is one line."""


class BadReview(Exception):
    """A review, but none that this webhook answers; the text says why."""

    def __init__(self, uid: str, text: str) -> None:
        super().__init__(text)
        self.uid = uid


@dataclass(frozen=True, slots=True)
class Review:
    """One pod to be created, and who asks."""

    uid: str
    pod: Pod
    request: PodRequest

    @property
    def pod_name(self) -> str:
        """The pod's name, or the beginning of the one that it will be given."""
        name, prefix = (self.pod["metadata"].get(key) for key in ("name", "generateName"))
        if isinstance(name, str) and name:
            return name
        return f"{prefix}*" if isinstance(prefix, str) else "?"


class AdmissionReviews:
    """`ports.webhook.Reviews` with the rules of `rules`."""

    def __init__(self, rules: Rules, *, metrics: InjectorMetrics, clock: Clock, log: Log) -> None:
        self._rules = rules
        self._metrics = metrics
        self._clock = clock
        self._log = log

    def serves(self, path: str) -> bool:
        """Whether reviews are sent to `path`."""
        return path in LEVEL_BY_PATH

    def answer(self, path: str, content: bytes) -> Reply:
        """The reply to one review that was posted to `path`."""
        began_seconds = self._clock.monotonic_seconds()
        outcome, reply = self._answer(path, content)
        self._metrics.reviewed(outcome, self._clock.monotonic_seconds() - began_seconds)
        return reply

    def _answer(self, path: str, content: bytes) -> tuple[str, Reply]:
        try:
            review = read_review(content, LEVEL_BY_PATH[path])
        except (BadRequest, RecursionError) as error:
            self._log.warning("review_unreadable", path=path, reason=str(error))
            return "invalid", Reply(HTTPStatus.BAD_REQUEST, "text/plain", f"{error}\n".encode(errors="replace"))
        except BadReview as error:
            self._log.warning("review_refused", path=path, uid=error.uid, reason=str(error))
            return "invalid", _denied(error.uid, HTTPStatus.BAD_REQUEST, str(error))
        try:
            return self._decided(review, self._rules(review.pod, review.request))
        except Exception as error:  # noqa: BLE001 - see the top of this file: the process must outlive a wrong rule
            return self._failed(review, error)

    def _decided(self, review: Review, decision: Decision) -> tuple[str, Reply]:
        response: dict[str, Any] = {"uid": review.uid, "allowed": decision.allowed}
        if decision.warnings:
            response["warnings"] = list(decision.warnings)
        if decision.applied:
            # In the API server's audit log, under the webhook's name.
            response["auditAnnotations"] = {"rules": "; ".join(f"{one.rule}: {one.text}" for one in decision.applied)}
        outcome = "allowed"
        if not decision.allowed:
            outcome = "denied"
            response["status"] = _status(HTTPStatus.FORBIDDEN, " ".join(decision.denials))
        elif operations := json_patch(review.pod, decision.pod):
            outcome = "changed"
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(operations).encode()).decode()}
        reply = _reply(response)
        if outcome != "allowed" or decision.warnings:
            self._log.info(
                "pod_reviewed", namespace=review.request.namespace, pod=review.pod_name, uid=review.uid,
                decision=outcome, reason="; ".join(decision.denials or (one.text for one in decision.applied)),
                warnings=list(decision.warnings),
            )  # fmt: skip
        return outcome, reply

    def _failed(self, review: Review, error: Exception) -> tuple[str, Reply]:
        text = "".join(traceback.format_exception(error, limit=-20))
        self._log.error(
            "review_failed", namespace=review.request.namespace, pod=review.pod_name, uid=review.uid, reason=text
        )
        message = (
            f"gpumem could not decide on this pod: {type(error).__name__}. This is a fault of gpumem's rules, not of "
            f"the pod; the log of {names.INJECTOR_COMPONENT} has it under review_failed, uid {review.uid}."
        )
        return "failed", _denied(review.uid, HTTPStatus.INTERNAL_SERVER_ERROR, message)


def read_review(content: bytes, level: PodSecurityLevel) -> Review:
    """The review in `content`, for namespaces of that PodSecurity level.

    Raises:
        BadRequest: It is no AdmissionReview, or nobody can be answered.
        BadReview: It is one of something else than a pod that is to be created.
        RecursionError: It is nested too deeply.
    """
    try:
        document = json.loads(content, parse_constant=_no_constant)
    except ValueError as error:
        raise BadRequest(f"the body is no JSON: {_cut(str(error), LONGEST_REASON)}") from error
    if not isinstance(document, dict) or document.get("kind") != "AdmissionReview":
        raise BadRequest("the body is no AdmissionReview")
    if document.get("apiVersion") != API_VERSION:
        version = _cut(json.dumps(document.get("apiVersion")), 60)
        raise BadRequest(f"apiVersion {version}: this webhook answers {API_VERSION} alone")
    request = document.get("request")
    uid = request.get("uid") if isinstance(request, dict) else None
    if not isinstance(request, dict) or not isinstance(uid, str) or not uid:
        raise BadRequest("the AdmissionReview has no request with a uid, so there is nobody to answer")
    return _read_request(request, uid, level)


def _read_request(request: Mapping[str, Any], uid: str, level: PodSecurityLevel) -> Review:
    def bad(text: str) -> NoReturn:
        raise BadReview(uid, text)

    if request.get("kind") != POD or request.get("subResource"):
        what = _cut(json.dumps([request.get("kind"), request.get("subResource")]), 120)
        bad(f"this webhook answers for pods of v1 alone, and was asked about {what}: correct its rules")
    if request.get("operation") != "CREATE":
        operation = _cut(json.dumps(request.get("operation")), 60)
        bad(f"this webhook answers for CREATE alone, and was asked about {operation}: correct its rules")
    namespace, pod = request.get("namespace"), request.get("object")
    if not isinstance(namespace, str) or not namespace:
        bad("the request names no namespace")
    if not isinstance(pod, dict) or pod.get("kind", "Pod") != "Pod":
        bad("the request's object is no Pod")
    if not isinstance(pod.get("metadata"), dict) or not isinstance(pod.get("spec"), dict):
        bad("the request's object has no metadata or no spec")
    return Review(uid, pod, PodRequest(namespace=namespace, pod_security=level))


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _denied(uid: str, code: HTTPStatus, message: str) -> Reply:
    return _reply({"uid": uid, "allowed": False, "status": _status(code, message)})


def _status(code: HTTPStatus, message: str) -> dict[str, Any]:
    return {"code": int(code), "message": message}


def _reply(response: Mapping[str, Any]) -> Reply:
    review = {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}
    return Reply(HTTPStatus.OK, "application/json", json.dumps(review).encode())


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
