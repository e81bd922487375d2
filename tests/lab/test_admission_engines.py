"""Both engines on a real API server: every case of the table comes out alike, byte for byte."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kubernetes import config

from helpers.domain.admission.decide import decide
from helpers.rendering.admission import policy_objects
from helpers.rendering.objects import RenderedObject
from lab import cluster
from lab.waiting import POLL_SECONDS, wait_for
from tests.fixtures.admission_api import Answer, PodApi
from tests.fixtures.admission_cases import Case, cases, pod_of, settings_names, settings_of

pytestmark = pytest.mark.lab

# Informers of the API server take a moment; a bound against hanging.
SETTLING_BOUND_SECONDS = 3.0


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodApi]:
    """A cluster of its own: policies hold for every pod of a cluster."""
    root: Path = tmp_path_factory.mktemp("admission")
    try:
        lab = cluster.up("admission", [], root, print)
        with config.new_client_from_config(str(lab.kubeconfig)) as kube:
            api = PodApi(kube)
            api.make_surroundings()
            yield api
    finally:
        cluster.down("admission", root)


def said(case: Case, answer: Answer) -> bool:
    """Whether the answer says what the rules say, no more and no less."""
    decision = decide(pod_of(case), case.request(), settings_of(case.settings))
    if decision.denials:
        return any(text in answer.refusal for text in decision.denials)
    return (
        not answer.refusal
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


@pytest.fixture(scope="module")
def by_policy(api: PodApi) -> dict[Case, Answer]:
    answers: dict[Case, Answer] = {}
    for name in settings_names():
        objects = list(policy_objects(settings_of(name)))
        api.apply(objects)
        answers |= {case: settled(api, case) for case in cases() if case.settings == name}
        api.remove(objects)
    return answers


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.about)
def test_the_policies_say_what_the_rules_say(by_policy: dict[Case, Answer], case: Case) -> None:
    assert said(case, by_policy[case]), by_policy[case]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.about)
def test_the_policies_make_the_pod_that_the_rules_make(api: PodApi, by_policy: dict[Case, Answer], case: Case) -> None:
    if not by_policy[case].refusal:
        # No rule holds any more: the API server adds to the rules' pod what it adds to every pod.
        made = api.create(case.namespace, decide(pod_of(case), case.request(), settings_of(case.settings)).pod)
        assert by_policy[case].text == made.text


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
