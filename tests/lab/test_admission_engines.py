"""Both engines on a real API server: every case of the table comes out alike, byte for byte."""

from __future__ import annotations

import contextlib
import difflib
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kubernetes import config

from helpers.domain import names
from helpers.domain.admission.decide import decide
from helpers.domain.admission.decision import Decision
from helpers.domain.admission.settings import GPU_SYSTEM_NAMESPACE
from helpers.rendering.admission import admission_objects, policy_objects
from helpers.rendering.objects import RenderedObject
from lab import cluster
from lab.cluster import Lab
from lab.injector import apply_configuration, grant, injector, pointed_at
from lab.waiting import POLL_SECONDS, wait_for
from tests.fixtures.admission_api import Answer, PodApi
from tests.fixtures.admission_cases import Case, cases, changes, estate_of, pod_of, settings_names, settings_of, shows

pytestmark = pytest.mark.lab

# Informers of the API server take a moment; a bound against hanging.
CONFIGURATION_KIND = "MutatingWebhookConfiguration"
SETTLING_BOUND_SECONDS = 30.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A cluster of its own: policies hold for every pod of a cluster."""
    root: Path = tmp_path_factory.mktemp("admission")
    try:
        yield cluster.up("admission", [], root, print)
    finally:
        cluster.down("admission", root)


@pytest.fixture(scope="module")
def api(lab: Lab) -> Iterator[PodApi]:
    with config.new_client_from_config(str(lab.kubeconfig)) as kube:
        api = PodApi(kube)
        api.make_surroundings()
        yield api


def decided(case: Case) -> Decision:
    return decide(pod_of(case), case.request(), settings_of(case.settings))


def in_turn(settings: str) -> list[Case]:
    """The cases of these settings, first those that show whether the API server goes by them yet."""
    mine = [case for case in cases() if case.settings == settings]
    return sorted(mine, key=lambda case: decided(case).pod == case.pod)


def said(case: Case, answer: Answer) -> bool:
    """Whether the answer says and shows what the rules say, no more and no less."""
    decision = decided(case)
    if decision.denials:
        return any(text in answer.refusal for text in decision.denials)
    return (
        not answer.refusal
        and shows(answer.pod, changes(case.pod, decision.pod))
        and len(answer.warnings) == len(decision.warnings)
        and all(text in said for text, said in zip(sorted(decision.warnings), _plain(answer.warnings), strict=True))
    )


def _plain(warnings: tuple[str, ...]) -> list[str]:
    return sorted(text.partition("with binding")[2].partition(": ")[2] or text for text in warnings)


def settled(api: PodApi, case: Case) -> Answer:
    """The answer once the API server goes by the rules just applied; the last one where it never does."""
    end = time.monotonic() + SETTLING_BOUND_SECONDS
    while True:
        answer = api.create(case.namespace, pod_of(case))
        if said(case, answer) or time.monotonic() > end:
            return answer
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def policies(api: PodApi, settings: str) -> Iterator[None]:
    objects = list(admission_objects(estate_of(settings)))
    api.apply(objects)
    try:
        yield
    finally:
        api.remove(objects)


@contextlib.contextmanager
def webhook(api: PodApi, lab: Lab, folder: Path, settings: str) -> Iterator[None]:
    # An estate is the same for every Kubernetes; only the engine differs.
    objects = [item for item in admission_objects(estate_of(settings, "1.35")) if item.kind == CONFIGURATION_KIND]
    kubeconfig = grant(lab, GPU_SYSTEM_NAMESPACE)
    options = ("--settle-seconds", "0")
    with injector(
        folder, kubeconfig, settings_of(settings), namespace=GPU_SYSTEM_NAMESPACE, options=options
    ) as process:
        apply_configuration(lab.api(), pointed_at(dict(objects[0].manifest), process.port))
        wait_for(lambda: ca_is_known(api))
        try:
            yield
        finally:
            api.remove(objects)


@pytest.fixture(scope="module")
def by_policy(api: PodApi) -> dict[Case, Answer]:
    answers: dict[Case, Answer] = {}
    for name in settings_names():
        with policies(api, name):
            answers |= {case: settled(api, case) for case in in_turn(name)}
    return answers


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.about)
def test_the_policies_say_what_the_rules_say(by_policy: dict[Case, Answer], case: Case) -> None:
    assert said(case, by_policy[case]), by_policy[case]


@pytest.fixture(scope="module")
def by_webhook(api: PodApi, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[Case, Answer]:
    answers: dict[Case, Answer] = {}
    for name in settings_names():
        with webhook(api, lab, tmp_path_factory.mktemp("webhook"), name):
            answers |= {case: settled(api, case) for case in in_turn(name)}
    return answers


def ca_is_known(api: PodApi) -> bool:
    path = f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{names.WEBHOOK_CONFIGURATION}"
    return all("caBundle" in webhook["clientConfig"] for webhook in api.get(path)["webhooks"])


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.about)
def test_the_webhook_says_what_the_rules_say(by_webhook: dict[Case, Answer], case: Case) -> None:
    assert said(case, by_webhook[case]), by_webhook[case]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.about)
def test_both_engines_make_the_same_pod_byte_for_byte(
    by_policy: dict[Case, Answer], by_webhook: dict[Case, Answer], case: Case
) -> None:
    assert differences(by_policy[case], by_webhook[case]) == []
    assert by_policy[case].text == by_webhook[case].text


def differences(one: Answer, other: Answer) -> list[str]:
    """What a person can read of two answers that differ."""
    if not one.text or not other.text:
        return [] if one.text == other.text else ["one engine refused the pod"]
    before, after = (json.dumps(each.pod, indent=1).splitlines() for each in (one, other))
    return list(difflib.unified_diff(before, after))


def test_the_type_checker_of_the_api_server_finds_nothing(api: PodApi) -> None:
    objects = list(policy_objects(settings_of("default")))
    api.apply(objects)
    for item in objects:
        if item.kind == "ValidatingAdmissionPolicy":
            checked = wait_for(partial(checked_by_the_server, api, item))
            assert not (checked.get("typeChecking") or {}).get("expressionWarnings"), checked
    api.remove(objects)


def checked_by_the_server(api: PodApi, item: RenderedObject) -> dict[str, Any]:
    path = f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{item.manifest['metadata']['name']}"
    status: dict[str, Any] = api.get(path).get("status") or {}
    return status if status.get("observedGeneration") else {}


ANNOTATED: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"generateName": "job-", "annotations": {"gpu-directories": "nvidia:0"}},
    "spec": {"containers": [{"name": "a", "image": "registry.example.com/case:1"}]},
}
ANNOTATED_WARNINGS = ("device files give no access by themselves", "declares no GPU memory")
PLAIN = {**ANNOTATED, "metadata": {"name": "plain"}}
DEBUGGER = {"name": "debugger", "image": "registry.example.com/debug:1"}


@pytest.fixture(scope="module", params=["policy", "webhook"])
def engine(
    request: pytest.FixtureRequest, api: PodApi, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """One engine at a time, in effect."""
    running = (
        policies(api, "warn") if request.param == "policy" else webhook(api, lab, tmp_path_factory.mktemp("w"), "warn")
    )
    with running:
        wait_for(partial(in_effect, api))
        yield request.param


def in_effect(api: PodApi) -> bool:
    """Whether both halves are: the API server takes up what changes pods and what warns each in its own time."""
    answer = api.create("ai", ANNOTATED)
    return "/dev/nvidia0" in answer.text and len(answer.warnings) == len(ANNOTATED_WARNINGS)


def test_a_dry_run_shows_what_a_real_creation_makes(engine: str, api: PodApi) -> None:
    shown, made = api.create("ai", ANNOTATED), api.create("ai", ANNOTATED, dry_run=False)
    assert shown.pod["spec"] == made.pod["spec"]
    assert shown.warnings == made.warnings
    assert all(any(words in each for each in made.warnings) for words in ANNOTATED_WARNINGS)
    assert "/dev/nvidia0" in made.text


def test_a_pod_that_is_updated_is_left_alone(engine: str, api: PodApi) -> None:
    plain = api.create("ai", PLAIN, dry_run=False).pod
    later = api.patch(
        "/api/v1/namespaces/ai/pods/plain", {"metadata": {"annotations": {"gpu-directories": "nonsense"}}}
    )
    assert not later.refusal
    assert later.pod["spec"] == plain["spec"]
    api.delete("/api/v1/namespaces/ai/pods/plain")


def test_an_ephemeral_container_is_let_in_as_it_is(engine: str, api: PodApi) -> None:
    name = api.create("ai", ANNOTATED, dry_run=False).pod["metadata"]["name"]
    path = f"/api/v1/namespaces/ai/pods/{name}"
    before = api.get(path)["spec"]
    answer = api.patch(f"{path}/ephemeralcontainers", {"spec": {"ephemeralContainers": [DEBUGGER]}})
    assert not answer.refusal
    assert answer.pod["spec"]["containers"] == before["containers"]
    assert "volumeMounts" not in answer.pod["spec"]["ephemeralContainers"][0]
    api.delete(path)


def test_a_deployment_gets_its_pods_through_either_engine(engine: str, api: PodApi) -> None:
    template = {"metadata": {**ANNOTATED["metadata"], "labels": {"app": "made"}}, "spec": ANNOTATED["spec"]}
    del template["metadata"]["generateName"]
    deployment = {
        "metadata": {"name": "made"},
        "spec": {"selector": {"matchLabels": {"app": "made"}}, "template": template},
    }
    api.post("/apis/apps/v1/namespaces/ai/deployments", deployment)
    pods = wait_for(lambda: api.get("/api/v1/namespaces/ai/pods?labelSelector=app%3Dmade")["items"])
    assert [volume["name"] for volume in pods[0]["spec"]["volumes"]][-3:] == ["nvidia0", "nvidiactl", "nvidia-uvm"]
    api.delete("/apis/apps/v1/namespaces/ai/deployments/made")
    api.delete("/api/v1/namespaces/ai/pods?labelSelector=app%3Dmade")
    wait_for(lambda: not api.get("/api/v1/namespaces/ai/pods?labelSelector=app%3Dmade")["items"])
