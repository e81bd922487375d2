"""What a review says of each kind of change, and how gravely; on the shipped example, changed in one place."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from helpers.domain.estate.review import FINDING_KINDS, Review
from helpers.domain.review.documents import changed_fields
from helpers.domain.review.model import Finding, ReviewResult
from helpers.domain.watchdog.recommendation import PodUse, UsePoint, recommend
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.review import review_estates
from tests.cases.recycling.world import NOW

EXAMPLE = (Path(__file__).parents[2] / "gpumem.yaml").read_text()
PORTAL = EXAMPLE.index("  - name: portal-stt")
IMMICH, LLAMA = EXAMPLE.index("  - name: immich-ml"), EXAMPLE.index("  - name: llama-swap")


def changed(**replacements: str) -> str:
    text = EXAMPLE
    for old, new in replacements.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def review(before: str, after: str, *, allow_overflow: bool = False, p99_mib: int | None = None) -> ReviewResult:
    base, new = (parse_estate(text, "estate", allow_overcommit=True)[0] for text in (before, after))
    use = None
    if p99_mib is not None:
        points = tuple(UsePoint(NOW + timedelta(minutes=15 * i), p99_mib) for i in range(800))
        use = {"immich-ml": recommend("immich-ml", 3000, [PodUse("immich/p", NOW, points)])}
    return review_estates(("a", base), ("b", new), use=use, allow_overflow=allow_overflow)


def found(result: ReviewResult, kind: str) -> Finding:
    (finding,) = [one for one in result.findings if one.kind == kind]
    return finding


OVERFLOW = {"budget_mib: 3000": "budget_mib: 6000"}


def test_the_overflow_names_tenant_gpu_and_slack_and_stops() -> None:
    result = review(EXAMPLE, changed(**OVERFLOW))
    assert (result.risk, [one.kind for one in result.findings if one.risk == "stop"]) == (
        "stop",
        ["over_commit", "always_on_pending"],
    )
    assert "GPU 0 (Tesla T4)" in found(result, "over_commit").text
    assert "slack -2300 MiB" in found(result, "over_commit").text
    pending = found(result, "always_on_pending")
    assert pending.subject == "immich-ml"
    assert pending.text == "its pod becomes Pending on t4-node, GPU 0 (Tesla T4): 6000 MiB asked for, 3700 left"


def test_a_stateful_sets_pending_pod_is_told_to_outlive_the_change_back() -> None:
    """Kubernetes's "forced rollback": seen on the lab, where reverting the estate alone left the pod Pending."""
    repair = found(review(EXAMPLE, changed(**{"budget_mib: 2000": "budget_mib: 2701"})), "always_on_pending").repair
    assert repair.endswith("; a StatefulSet's Pending pod outlives a change back, until it is deleted")


def test_allowed_overflow_is_still_told_and_stops_no_more() -> None:
    result = review(EXAMPLE, changed(**OVERFLOW), allow_overflow=True)
    assert (result.risk, result.stops) == ("high", False)
    assert [one.kind for one in result.findings if one.accepted] == ["over_commit", "always_on_pending"]


def test_allow_overflow_accepts_nothing_but_overflow() -> None:
    smaller = changed(**{"reserve_mib: 1360": "reserve_mib: 3360"})
    result = review(EXAMPLE, smaller, allow_overflow=True)
    assert [one.kind for one in result.findings if one.risk == "stop"] == ["capacity_refused"]
    quota = review(EXAMPLE, changed(**{"budget_mib: 9000": "budget_mib: 4000"}), allow_overflow=True)
    assert found(quota, "quota_blocks").risk == "stop"


def test_what_was_wrong_before_and_is_no_worse_stops_nobody() -> None:
    crowded = changed(**OVERFLOW)
    better = crowded.replace("budget_mib: 6000", "budget_mib: 5000")
    assert not review(crowded, better).stops
    assert not review(crowded, crowded).stops
    assert review(crowded, crowded.replace("budget_mib: 2000", "budget_mib: 2001")).stops


def test_a_number_below_what_runs_is_refused_and_needs_two_changes() -> None:
    """Field fault: lowering the capacity under what runs is delayed poison (`helpers.domain.capacity` refuses it)."""
    both = changed(**{"reserve_mib: 1360": "reserve_mib: 3360", "budget_mib: 5000": "budget_mib: 3000"})
    result = review(EXAMPLE, both)
    assert "12000 MiB are less than the 13300 that run" in found(result, "capacity_refused").text
    assert [step.partition(":")[0] for step in result.order] == [
        "first, as a change of its own",
        "then, as a second change",
    ]
    drained = review(EXAMPLE, both.replace("drain: false", "drain: true"))
    assert "the next kubelet restart fails pods there" in found(drained, "capacity_drained").text
    enough = review(EXAMPLE, changed(**{"reserve_mib: 1360": "reserve_mib: 1860"}))
    assert enough.order == ("nvidia first", "consumers, behind the gate: every node must show its number")


def test_a_larger_card_goes_before_the_tenants_that_use_it() -> None:
    result = review(
        EXAMPLE, changed(**{"reserve_mib: 1360": "reserve_mib: 1000", "budget_mib: 3000": "budget_mib: 4000"})
    )
    assert result.order[0] == "nvidia first (t4-node: the number rises)"
    assert not result.stops


@pytest.mark.parametrize(
    ("before", "after", "p99_mib", "kind"),
    [
        ("budget_mib: 3000", "budget_mib: 2500", 2600, "below_measured_use"),
        ("budget_mib: 3000", "budget_mib: 2700", 2600, None),
        ("budget_mib: 3000", "budget_mib: 3100", 3500, None),
        ("budget_mib: 5000", "budget_mib: 4000", 2600, "measured_unknown"),
    ],
)
def test_a_budget_is_held_against_measured_use_where_it_goes_down_or_is_unknown(
    before: str, after: str, p99_mib: int, kind: str | None
) -> None:
    result = review(EXAMPLE, changed(**{before: after}), p99_mib=p99_mib)
    kinds = {one.kind for one in result.findings} & {"below_measured_use", "measured_unknown"}
    assert kinds == ({kind} if kind else set())
    assert result.stops == (kind == "below_measured_use")


def test_who_goes_is_told_by_what_happens_to_its_workload() -> None:
    created = found(review(EXAMPLE, EXAMPLE[:PORTAL]), "tenant_removed")
    assert created.text == "Deployment portal/portal-stt is deleted"
    patched = found(review(EXAMPLE, EXAMPLE[:IMMICH] + EXAMPLE[LLAMA:]), "tenant_removed")
    assert "are not counted any more" in patched.text


@pytest.mark.parametrize(
    ("old", "new", "kind", "words"),
    [
        ("- name: portal-stt", "- name: speech", "tenant_renamed", "portal-stt is called speech now"),
        ("name: portal-stt, container: stt", "name: stt, container: stt", "workload_replaced", "is made anew"),
        ("viktorbarzin.me/gpumem", "example.com/gpumem", "resource_renamed", "it was viktorbarzin.me/gpumem"),
        ("renameByDefault: false", "renameByDefault: true", "resource_renamed", "called nvidia.com/gpu.shared instead"),
        ('tag: "0.1.0"', 'tag: "0.2.0"', "helper_restart", "gpumem-watchdog"),
        ("portal-stt:2.3.0", "portal-stt:2.4.0", "restart", "portal-stt:2.3.0 → registry.example.com/portal-stt:2.4.0"),
    ],
)
def test_names_and_images(old: str, new: str, kind: str, words: str) -> None:
    assert words in found(review(EXAMPLE, changed(**{old: new})), kind).text


def test_a_workload_that_changes_hands_is_told() -> None:
    by_admission = EXAMPLE.replace(
        "    apply: patch\n    budget_mib: 1800", "    apply: admission\n    pod_labels: {app: x}\n    budget_mib: 1800"
    )
    assert "apply: patch → admission" in found(review(EXAMPLE, by_admission), "handover").text


def test_a_node_that_is_only_called_otherwise_is_the_same_node() -> None:
    renamed = EXAMPLE.replace("name: t4-node", "name: t4").replace("node: t4-node", "node: t4")
    result = review(EXAMPLE, renamed)
    (row,) = result.nodes
    assert (row.name, row.renamed_from, row.before) == ("t4", "t4-node", row.after)
    assert {one.kind for one in result.findings} == {"helper_restart"}


def test_a_file_for_another_tool_that_changes_is_no_empty_review() -> None:
    talos = (Path(__file__).parents[2] / "estates/talos-2x3090.yaml").read_text()
    assert "cluster_name: talos-cluster" in talos
    result = review(talos, talos.replace("cluster_name: talos-cluster", "cluster_name: other"))
    assert not result.empty
    assert {row.kind for row in result.objects} == {"File"}
    assert result.order == ()


def test_a_node_that_goes_is_told_with_its_numbers() -> None:
    second = EXAMPLE[EXAMPLE.index("  - name: t4-node") : EXAMPLE.index("capacity: #")]
    two = second + second.replace("t4-node", "old").replace('nvidia.com/gpu.present: "true"', "old: yes-it-is")
    result = review(EXAMPLE.replace(second, two), EXAMPLE)
    assert found(result, "node_removed").subject == "old"
    assert [(row.name, row.after is None) for row in result.nodes] == [("t4-node", False), ("old", True)]


def test_a_protected_tenant_that_restarts_is_graver_than_another() -> None:
    guarded = "    budget_mib: 5000\n    watchdog: {protected: true}\n"
    before = changed(**{"    budget_mib: 5000\n": guarded})
    result = review(before, before.replace("llama-swap:1.0.0", "llama-swap:1.0.1"))
    assert found(result, "protected_restart").risk == "high"
    strict = before.replace("stop_on: [", "stop_on: [protected_restart, ")
    assert review(strict, strict.replace("llama-swap:1.0.0", "llama-swap:1.0.1")).stops


def test_a_change_is_judged_by_the_policy_that_stood_before_it() -> None:
    loose = changed(**OVERFLOW, **{"[over_commit, always_on_pending, ": "["})
    result = review(EXAMPLE, loose)
    assert result.stops
    assert found(result, "policy_changed").risk == "medium"
    assert not review(loose, loose.replace("budget_mib: 6000", "budget_mib: 7000")).stops


def test_policy_may_name_every_finding_and_stops_by_the_gravest_alone() -> None:
    assert set(Review().stop_on) < set(FINDING_KINDS)
    assert FINDING_KINDS[: len(Review().stop_on)] == Review().stop_on


def test_fields_are_told_by_path_and_values_only_where_they_are_no_secret() -> None:
    before = {"containers": [{"name": "main", "image": "a:1", "env": [{"name": "TOKEN", "value": "old-secret"}]}]}
    after = {"containers": [{"name": "main", "image": "a:2", "env": [{"name": "TOKEN", "value": "new-secret"}]}]}
    told = list(changed_fields(before, after))
    assert told == ["containers[main].env[TOKEN].value", "containers[main].image: a:1 → a:2"]
    assert list(changed_fields({"args": ["x"]}, {"args": ["y"]})) == ["args"]
    assert list(changed_fields({"a": [{"name": "x"}, {"name": "y"}]}, {"a": [{"name": "y"}, {"name": "x"}]})) == [
        "a (order)"
    ]
