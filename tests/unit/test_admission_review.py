"""Reviews: whatever comes in, an API server gets an answer that it can show."""

from __future__ import annotations

import base64
import json
from functools import partial
from typing import Any

import jsonpatch
import pytest

from helpers.domain.admission.decide import decide
from helpers.domain.admission.decision import Applied, Decision, Pod, PodRequest
from helpers.domain.admission.settings import admission_settings
from helpers.domain.admission.webhook import LEVEL_BY_PATH
from helpers.ports.webhook import Reply
from helpers.services.admission_review import OUTCOMES, AdmissionReviews, Rules
from tests.fakes.injector_world import FakeInjectorMetrics
from tests.fakes.outside import FakeClock, FakeLog
from tests.synth.estates import example

PATH = "/mutate/privileged"
UID = "705ab4f5-6393-11e8-b7cc-42010a800002"


def pod(**annotations: str) -> dict[str, Any]:
    """As small as an API server sends one."""
    metadata: dict[str, Any] = {"generateName": "trainer-"}
    if annotations:
        metadata["annotations"] = {key.replace("_", "-"): value for key, value in annotations.items()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "main", "image": "x"}]},
    }


def review(**changes: Any) -> dict[str, Any]:
    """A review of such a pod; `changes` of its request, None takes away."""
    request = {
        "uid": UID,
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "namespace": "research",
        "object": pod(),
    } | changes
    document = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    return {**document, "request": {key: value for key, value in request.items() if value is not None}}


def leave_alone(pod: Pod, request: PodRequest) -> Decision:
    return Decision(pod)


class Desk:
    """The service with its log and metrics."""

    def __init__(self, rules: Rules = leave_alone) -> None:
        self.log, self.metrics = FakeLog(), FakeInjectorMetrics()
        self.reviews = AdmissionReviews(rules, metrics=self.metrics, clock=FakeClock(), log=self.log)

    def ask(self, document: Any, path: str = PATH) -> Reply:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.reviews.answer(path, content)

    def answer(self, document: Any, path: str = PATH) -> Any:
        reply = self.ask(document, path)
        assert (reply.status, reply.content_type) == (200, "application/json")
        answered = json.loads(reply.content)
        assert (answered["apiVersion"], answered["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
        return answered["response"]


def patched(document: dict[str, Any], response: dict[str, Any]) -> Any:
    assert response["patchType"] == "JSONPatch"
    return jsonpatch.apply_patch(document["request"]["object"], json.loads(base64.b64decode(response["patch"])))


def test_a_pod_that_nothing_is_done_to_is_allowed_without_a_patch() -> None:
    desk = Desk()
    assert desk.answer(review()) == {"uid": UID, "allowed": True}
    assert desk.metrics.outcomes == ["allowed"]
    assert desk.log.lines == []


@pytest.mark.parametrize("given", [pod(gpu_directories="nvidia"), pod(gpu_directories="nvidia", other="x")])
def test_the_patch_makes_what_the_rules_decided(given: dict[str, Any]) -> None:
    estate = example()
    assert estate.admission is not None
    settings = admission_settings(estate, estate.admission)
    desk, document = Desk(partial(decide, settings=settings)), review(object=given)
    response = desk.answer(document)
    wanted = decide(given, PodRequest("research"), settings)
    assert patched(document, response) == wanted.pod
    assert wanted.pod["spec"]["runtimeClassName"] == "nvidia"
    assert response["warnings"] == list(wanted.warnings)
    assert response["auditAnnotations"]["rules"].startswith("directories: ")
    assert desk.metrics.outcomes == ["changed"]


def test_annotations_are_added_to_a_pod_that_has_none() -> None:
    def note(pod: Pod, request: PodRequest) -> Decision:
        return Decision({**pod, "metadata": {**pod["metadata"], "annotations": {"gpumem.io/cap": "x"}}})

    document = review()
    assert patched(document, Desk(note).answer(document))["metadata"]["annotations"] == {"gpumem.io/cap": "x"}


def test_all_denials_are_in_the_message_and_in_the_log() -> None:
    def refuse(pod: Pod, request: PodRequest) -> Decision:
        return Decision(pod, denials=("No.", "And no."), warnings=("Hm.",), applied=(Applied("denied", "No."),))

    desk = Desk(refuse)
    response = desk.answer(review())
    assert response["allowed"] is False
    assert response["status"] == {"code": 403, "message": "No. And no."}
    assert response["warnings"] == ["Hm."]
    assert "patch" not in response
    (line,) = desk.log.of("pod_reviewed")
    assert (line["namespace"], line["pod"], line["decision"]) == ("research", "trainer-*", "denied")
    assert desk.metrics.outcomes == ["denied"]


@pytest.mark.parametrize(("path", "level"), LEVEL_BY_PATH.items())
def test_the_path_says_which_level_the_namespace_enforces(path: str, level: str) -> None:
    seen: list[PodRequest] = []

    def note(pod: Pod, request: PodRequest) -> Decision:
        seen.append(request)
        return Decision(pod)

    Desk(note).answer(review(), path)
    assert seen == [PodRequest("research", level)]  # type: ignore[arg-type]


def test_a_fault_in_the_rules_denies_the_pod_and_says_whose_fault_it_is() -> None:
    def fail(pod: Pod, request: PodRequest) -> Decision:
        raise ZeroDivisionError

    desk = Desk(fail)
    response = desk.answer(review())
    assert response["allowed"] is False
    assert response["status"]["code"] == 500
    assert "a fault of gpumem's rules, not of the pod" in response["status"]["message"]
    assert "ZeroDivisionError" in str(desk.log.of("review_failed")[0]["reason"])
    assert desk.metrics.outcomes == ["failed"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the body is no JSON"),
        (b"{", "the body is no JSON"),
        (b"\xff\xfe\xff", "the body is no JSON"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b"1" * 5000, "the body is no JSON"),
        (b"[" * 200_000, "recursion"),
        (b"[]", "no AdmissionReview"),
        (b'{"kind": "Pod"}', "no AdmissionReview"),
        ({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"}, "answers admission.k8s.io/v1 alone"),
        ({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}, "nobody to answer"),
        ({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": []}, "nobody to answer"),
        (review(uid=None), "nobody to answer"),
        (review(uid=""), "nobody to answer"),
        (review(uid=7), "nobody to answer"),
    ],
    ids=str,
)
def test_what_is_no_review_is_refused_in_one_line(content: Any, said: str) -> None:
    desk = Desk()
    reply = desk.ask(content)
    assert reply.status == 400
    assert said in reply.content.decode()
    assert reply.content.count(b"\n") == 1
    assert len(reply.content) < 400
    assert desk.metrics.outcomes == ["invalid"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"operation": "UPDATE"}, 'CREATE alone, and was asked about "UPDATE"'),
        ({"operation": None}, "CREATE alone, and was asked about null"),
        ({"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}}, "pods of v1 alone"),
        ({"kind": {"group": "", "version": "v2", "kind": "Pod"}}, "pods of v1 alone"),
        ({"subResource": "ephemeralcontainers"}, "pods of v1 alone"),
        ({"namespace": None}, "no namespace"),
        ({"object": None}, "no Pod"),
        ({"object": {"kind": "Node", "metadata": {}, "spec": {}}}, "no Pod"),
        ({"object": {"kind": "Pod", "metadata": {}}}, "no metadata or no spec"),
        ({"object": {"kind": "Pod", "metadata": None, "spec": {}}}, "no metadata or no spec"),
    ],
    ids=str,
)
def test_a_review_of_something_else_is_denied_in_its_own_form(changes: dict[str, Any], said: str) -> None:
    desk = Desk()
    response = desk.answer(review(**changes))
    assert (response["uid"], response["allowed"], response["status"]["code"]) == (UID, False, 400)
    assert said in response["status"]["message"]
    assert desk.metrics.outcomes == ["invalid"]
    assert desk.log.of("review_refused")


def test_outcomes_are_the_closed_set_that_metrics_begin_with() -> None:
    assert set(OUTCOMES) == {"allowed", "changed", "denied", "invalid", "failed"}
