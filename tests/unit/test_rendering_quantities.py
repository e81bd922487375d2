"""Quantities are found wherever a manifest has them, and written as the API server stores them."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.domain.errors import QuantityError
from helpers.rendering.quantities import canonical


def container(resources: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "spec": {"template": {"spec": {"containers": [{"name": "a", "resources": resources}]}}},
    }


def test_limits_and_requests_of_every_container_are_canonical() -> None:
    found = canonical(container({"limits": {"example.com/gpumem": "5000", "memory": "2048Mi"}, "requests": {"cpu": 2}}))
    resources = found["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources == {"limits": {"example.com/gpumem": "5k", "memory": "2Gi"}, "requests": {"cpu": "2"}}


@pytest.mark.parametrize(
    ("manifest", "path", "wanted"),
    [
        ({"spec": {"hard": {"requests.x/y": "14000"}}}, ("spec", "hard", "requests.x/y"), "14k"),
        ({"v": {"emptyDir": {"sizeLimit": "1024Mi"}}}, ("v", "emptyDir", "sizeLimit"), "1Gi"),
        ({"v": {"resourceFieldRef": {"divisor": "1000m"}}}, ("v", "resourceFieldRef", "divisor"), "1"),
        ({"spec": {"overhead": {"memory": "1024Ki"}}}, ("spec", "overhead", "memory"), "1Mi"),
        (
            {"spec": {"resources": {"requests": {"storage": "0.5Gi"}}}},
            ("spec", "resources", "requests", "storage"),
            "512Mi",
        ),
    ],
)
def test_other_places_of_quantities_are_canonical(manifest: Any, path: tuple[str, ...], wanted: str) -> None:
    found: Any = canonical(manifest)
    for key in path:
        found = found[key]
    assert found == wanted


def test_what_only_looks_like_a_quantity_is_left_alone() -> None:
    manifest = {"data": {"limits": "5000"}, "spec": {"args": ["5000"], "ports": [{"containerPort": 8080}]}}
    assert canonical(manifest) == manifest


@pytest.mark.parametrize("text", ["5 GB", True, None, 0.5, ["1"]])
def test_an_unreadable_quantity_names_its_place(text: Any) -> None:
    with pytest.raises(QuantityError, match=r"spec\.template\.spec\.containers\.resources\.limits\.memory: "):
        canonical(container({"limits": {"memory": text}}))


def test_the_input_is_not_changed() -> None:
    manifest = container({"limits": {"memory": "1024Mi"}})
    canonical(manifest)
    assert manifest == container({"limits": {"memory": "1024Mi"}})
