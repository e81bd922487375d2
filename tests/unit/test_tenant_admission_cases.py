"""Every file in tests/cases/tenant_admission: a pod in, a pod out. tests/lab runs the same table through CEL."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from helpers.domain.admission import pods
from helpers.domain.admission.tenant_rules import TenantRule, apply_tenant_rule, matches
from tests.cases.tenant_admission.world import FILES, load_case, shown

every_case = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_there_are_enough_cases() -> None:
    assert len(FILES) >= 60


@every_case
def test_the_case_becomes_what_it_says(path: Path) -> None:
    case = load_case(path)
    rule, pod = case.rule(), case.pod_in("elsewhere" if case.foreign else "ai")
    mine = matches(rule, pod["metadata"]["namespace"], pod["metadata"]["labels"])
    assert mine == (case.expect is not None)
    if case.expect is not None:
        before = copy.deepcopy(pod)
        changed, texts = apply_tenant_rule(pod, rule)
        assert pod == before, "the pod that came is not changed"
        found = shown(changed, rule)
        container = {**next((c for c in pod["spec"]["containers"] if c["name"] == "main"), {})}
        assert found == {**case.expect, "container": {**container, **case.expect["container"]}}
        assert set(texts) == {found[key] for key in ("budget", "cap") if key in found}
        assert apply_tenant_rule(changed, rule) == (changed, texts), "a second call changes nothing"


@every_case
def test_nothing_but_the_container_the_annotations_and_the_claim_changes(path: Path) -> None:
    case = load_case(path)
    pod = case.pod_in("ai")
    changed, _ = apply_tenant_rule(pod, case.rule())
    for both in (pod, changed):
        both["metadata"].pop("annotations", None)
        both["spec"]["containers"] = [item for item in both["spec"]["containers"] if item["name"] != "main"]
        others = [item for item in both["spec"].pop("resourceClaims", ()) if item["name"] != "gpumem"]
        both["other claims"] = others
        for _, _, container in pods.containers(both if case.rule().claim_template else {"spec": {}}):
            container.pop("resources", None)  # what it still asks for is in `expect.others`
    assert changed == pod


@every_case
def test_a_rule_survives_the_document_that_carries_it(path: Path) -> None:
    rule = load_case(path).rule()
    assert TenantRule.model_validate_json(rule.model_dump_json()) == rule
