"""Two stacks never share a state: Terraform would have each destroy the other's objects."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.domain.errors import EstateInvalid
from helpers.domain.estate.model import Backend
from helpers.domain.estate.state_backend import STATE_SETTING, backend_config, backend_problems
from tests.synth.estates import example


def estate_with(backend_type: str, config: str) -> Any:
    return example(**{"type: local\n    config: {}": f"type: {backend_type}\n    config: {config}"})


@pytest.mark.parametrize(
    ("backend_type", "config", "path", "repair"),
    [
        ("s3", "{key: gpu, use_lockfile: true}", "terraform.backend.config.key", "put {stack} into key"),
        ("gcs", "{bucket: b}", "terraform.backend.config.prefix", "write prefix: gpumem-{stack}"),
        ("local", "{path: states/gpu.tfstate}", "terraform.backend.config.path", "put {stack} into path"),
    ],
)
def test_a_state_that_both_stacks_would_use_is_refused(backend_type: str, config: str, path: str, repair: str) -> None:
    with pytest.raises(EstateInvalid) as caught:
        estate_with(backend_type, config)
    (problem,) = caught.value.problems
    assert (problem.path, problem.repair) == (path, repair)
    assert "each stack needs a state of its own" in problem.rule


@pytest.mark.parametrize("backend_type", sorted(STATE_SETTING))
def test_every_backend_that_the_estate_knows_has_a_setting_that_names_the_state(backend_type: str) -> None:
    lock = ", use_lockfile: true, lock_address: 'https://states.example.com/{stack}'"
    estate = estate_with(backend_type, f"{{{STATE_SETTING[backend_type]}: 'gpumem-{{stack}}'{lock}}}")
    assert list(backend_problems(estate)) == []


def test_the_known_backends_are_those_of_the_estate() -> None:
    schema = Backend.model_json_schema()["properties"]["type"]["enum"]
    assert set(schema) == set(STATE_SETTING)


def test_the_stacks_name_is_filled_in_wherever_it_is_asked_for() -> None:
    backend = Backend(
        type="http", config={"address": "https://s/{stack}", "nested": [{"a": "{stack}"}], "retry_max": 3}
    )
    assert backend_config(backend, "nvidia") == {
        "address": "https://s/nvidia",
        "nested": [{"a": "nvidia"}],
        "retry_max": 3,
    }
