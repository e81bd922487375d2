"""What single blocks of the estate accept, and what they tell about themselves."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from helpers.domain.estate.model import Image
from helpers.domain.estate.nodes import Node
from helpers.domain.estate.pod_checks import is_pinned
from helpers.domain.estate.suggestion import did_you_mean
from helpers.domain.estate.tenants import Strategy, Tenant
from helpers.domain.estate.texts import CronSchedule, ExtendedResource, ImageRepository, ImageTag, VersionConstraint

T4 = {"model": "Tesla T4", "count": 1, "physical_mib": 15360, "reserve_mib": 1360}


def accepts(form: Any, text: str) -> bool:
    try:
        return bool(TypeAdapter(form).validate_python(text) == text)
    except ValidationError:
        return False


def node(**changes: Any) -> Node:
    return Node.model_validate({"name": "n", "selector": {"b": "2", "a": "1"}, "gpus": [T4], **changes})


def tenant(**changes: Any) -> Tenant:
    workload = {"kind": "Deployment", "name": "a", "container": "main"}
    basic = {"name": "a", "namespace": "ai", "workload": workload, "node": "n", "apply": "patch", "class": "batch"}
    return Tenant.model_validate({**basic, "budget_mib": 1000, **changes})


@pytest.mark.parametrize(
    "text", ["17 * * * *", "*/5 * * * *", "0,30 9-17 * * MON-FRI", "0 0 1 JAN *", "5/10 0 1-7 * sun", "59 23 31 12 6"]
)
def test_a_schedule_that_a_cronjob_takes_is_taken(text: str) -> None:
    assert accepts(CronSchedule, text)


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "9-5 * * * *",
     "a * * * *", "*/0 * * * *", "* * * FOO *", "1,,2 * * * *", "@hourly"],
)  # fmt: skip
def test_a_schedule_that_would_never_run_is_refused(text: str) -> None:
    assert not accepts(CronSchedule, text)


@pytest.mark.parametrize("text", ["viktorbarzin.me/gpumem", "example.com/gpu-mem_2", "a.b.c/x"])
def test_an_extended_resource_has_a_domain_of_its_own(text: str) -> None:
    assert accepts(ExtendedResource, text)


@pytest.mark.parametrize(
    "text",
    ["gpumem", "/gpumem", "x/", "nvidia.com/mem", "kubernetes.io/x", "a.kubernetes.io/x", "requests.a.b/x", "A/x"],
)
def test_other_peoples_resources_are_refused(text: str) -> None:
    assert not accepts(ExtendedResource, text)


@pytest.mark.parametrize(
    "text", [">= 1.5", ">= 2.1, < 3", "~> 3.2", "1.11.4", "= 2.4.1", "!= 2.2, >=2.0", "3.0.0-beta1"]
)
def test_terraform_version_constraints_are_read(text: str) -> None:
    assert accepts(VersionConstraint, text)


@pytest.mark.parametrize("text", ["", "newest", ">= 2.1,", ">> 2", "2.x", ">= 1.2.3.4"])
def test_what_terraform_would_refuse_is_refused(text: str) -> None:
    assert not accepts(VersionConstraint, text)


def test_an_image_is_named_with_its_tag_and_its_digest() -> None:
    digest = f"sha256:{'0' * 64}"
    assert Image(repository="localhost:5000/gpumem", tag="0.1.0").reference() == "localhost:5000/gpumem:0.1.0"
    assert Image(repository="ghcr.io/a/b", tag="1", digest=digest).reference() == f"ghcr.io/a/b:1@{digest}"


@pytest.mark.parametrize(
    ("form", "text"), [(ImageTag, "latest"), (ImageTag, ""), (ImageTag, "a b"), (ImageRepository, "a:b:c")]
)
def test_an_image_part_that_is_none_is_refused(form: Any, text: str) -> None:
    assert not accepts(form, text)


@pytest.mark.parametrize(
    ("image", "pinned"),
    [
        ("nginx", False),
        ("nginx:latest", False),
        ("nginx:", False),
        ("nginx:1.27", True),
        ("localhost:5000/nginx", False),
        ("localhost:5000/nginx:1", True),
        ("nginx@sha256:" + "0" * 64, True),
    ],
)
def test_an_image_is_pinned_by_tag_or_digest(image: str, pinned: bool) -> None:
    assert is_pinned(image) is pinned


def test_a_node_adds_up_its_cards() -> None:
    big = {"model": "NVIDIA L40S", "count": 2, "physical_mib": 46068, "reserve_mib": 1068}
    mixed = node(gpus=[T4, big])
    assert (mixed.physical_mib, mixed.advertised_mib) == (107496, 104000)
    assert (mixed.largest_card_mib, mixed.card_count, mixed.shares_count()) == (45000, 3, 3)


def sharing(**changes: Any) -> dict[str, Any]:
    return {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": 4}], **changes}}


def test_shares_are_named_as_the_device_plugin_names_them() -> None:
    assert node().share_resource() == "nvidia.com/gpu"
    assert node(sharing=sharing()).share_resource() == "nvidia.com/gpu"
    assert node(sharing=sharing(renameByDefault=True)).share_resource() == "nvidia.com/gpu.shared"
    assert node(sharing=sharing()).shares_count() == 4


def test_a_node_is_selected_by_its_labels_or_by_its_host_name() -> None:
    assert list(node().node_selector().items()) == [("a", "1"), ("b", "2")]
    named = node(selector=None, node_name="gpu-1.lan")
    assert named.node_selector() == {"kubernetes.io/hostname": "gpu-1.lan"}


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "surge_count", "rolls_without_room"),
    [
        (1, None, None, 1, False),
        (4, None, None, 1, True),
        (3, "34%", "33%", 2, False),
        (10, "25%", "25%", 3, True),
        (1, 0, 1, 0, True),
        (1, "0%", "25%", 0, True),
        (5, 2, 0, 2, False),
        (1, "200%", 0, 2, False),
    ],
)
def test_bounds_are_rounded_as_kubernetes_rounds_them(
    replicas: int, surge: int | str | None, unavailable: int | str | None, surge_count: int, rolls_without_room: bool
) -> None:
    bounds = {"maxSurge": surge, "maxUnavailable": unavailable}
    rolling = tenant(replicas=replicas, strategy={"type": "RollingUpdate", "rollingUpdate": bounds})
    assert rolling.surge_count() == surge_count
    assert rolling.rolls_without_room() is rolls_without_room


def test_a_strategy_without_bounds_is_kubernetes_default() -> None:
    assert tenant(strategy={"type": "RollingUpdate"}).surge_count() == 1
    assert tenant().effective_strategy() == Strategy.model_validate(
        {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    )


def test_what_we_render_never_needs_room_to_roll() -> None:
    pod = {"containers": [{"name": "main", "image": "a:1"}]}
    for replicas in (1, 2, 7):
        ours = tenant(apply="create", pod=pod, replicas=replicas)
        assert ours.surge_count() == 0
        assert ours.rolls_without_room()


def test_an_estate_never_changes_after_it_was_read() -> None:
    with pytest.raises(ValidationError):
        tenant().budget_mib = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("t4-nod", ["t4-node", "a100"], 'did you mean "t4-node"?'),
        ("zzz", ["b", "a"], "known: a, b"),
        ("x", [], "none is declared"),
        ("zzz", [f"n{index:02}" for index in range(20)],
         "known: n00, n01, n02, n03, n04, n05, n06, n07, n08, n09, n10, n11, … (20 in all)"),
    ],
)  # fmt: skip
def test_a_misspelt_name_gets_a_hint(word: str, known: list[str], hint: str) -> None:
    assert did_you_mean(word, known) == hint
