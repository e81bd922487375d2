"""The coordinator as objects: what it may do, what it is given, and that it is there only where it is declared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from helpers.apps.cli.__main__ import cli
from helpers.domain import names
from helpers.domain.lanes.settings import CoordinatorSettings, coordinator_settings
from helpers.rendering.monitoring import scrape_jobs
from helpers.rendering.objects import Rendered
from helpers.rendering.platform import coordinator_arguments
from helpers.rendering.render import render
from tests.synth.estates import EXAMPLE, PROJECT, shipped

ESTATE = shipped(PROJECT / "estates/rtx2060super.yaml")


@pytest.fixture(scope="module")
def rendered() -> Rendered:
    return render(ESTATE)


def manifest(rendered: Rendered, address: str) -> Any:
    (found,) = [item.manifest for item in rendered.wave(2).objects if item.address == address]
    return found


def test_without_a_coordinator_there_is_no_second_wave() -> None:
    assert render(shipped(EXAMPLE)).wave(2).objects == ()


def test_everything_lives_in_gpu_system(rendered: Rendered) -> None:
    objects = rendered.wave(2).objects
    assert {item.manifest["metadata"].get("namespace", "gpu-system") for item in objects} == {"gpu-system"}
    (namespace,) = [item for item in objects if item.kind == "Namespace"]
    assert namespace.retain


def test_what_is_mounted_is_what_the_process_reads(rendered: Rendered) -> None:
    data = manifest(rendered, "coordinator-config")["data"]
    assert CoordinatorSettings.model_validate_json(data["coordinator.json"]) == coordinator_settings(ESTATE)
    assert set(data) == {Path(names.COORDINATOR_CONFIG_PATH).name}


def test_no_password_is_in_any_object_and_the_pod_gets_it_from_the_secret(rendered: Rendered) -> None:
    (container,) = manifest(rendered, "coordinator")["spec"]["template"]["spec"]["containers"]
    password = [one for one in container["env"] if one["name"] == "GPUMEM_REDIS_PASSWORD"]
    assert password == [
        {"name": "GPUMEM_REDIS_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}}
    ]
    assert "secretKeyRef" in json.dumps(container)


def test_the_arguments_are_ones_that_the_command_takes() -> None:
    arguments = coordinator_arguments()
    outcome = CliRunner().invoke(cli, [*arguments, "--settings", "none.json", "--no-kubernetes"])
    assert "No such option" not in outcome.output
    assert "none.json" in str(outcome.exception)


def test_it_may_lead_and_nothing_else(rendered: Rendered) -> None:
    rules = manifest(rendered, "coordinator-role")["rules"]
    assert {(group, resource) for rule in rules for group in rule["apiGroups"] for resource in rule["resources"]} == {
        ("coordination.k8s.io", "leases")
    }
    assert not any(item.kind.startswith("Cluster") for item in rendered.wave(2).objects)


def test_another_lane_starts_another_pod(rendered: Rendered) -> None:
    before = manifest(rendered, "coordinator")["spec"]["template"]["metadata"]["annotations"]
    assert ESTATE.coordinator is not None
    later = ESTATE.coordinator.model_copy(update={"poll_seconds": 2.0})
    after = manifest(render(ESTATE.model_copy(update={"coordinator": later})), "coordinator")
    assert after["spec"]["template"]["metadata"]["annotations"] != before


def test_prometheus_finds_it_where_it_is() -> None:
    (job,) = [job for job in scrape_jobs(ESTATE) if job.name == "gpumem-coordinator"]
    assert (job.app, job.namespace) == ("gpumem-coordinator", "gpu-system")
    assert "gpumem-coordinator" not in {job.name for job in scrape_jobs(shipped(EXAMPLE))}
