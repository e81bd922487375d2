"""The coordinator as objects: what it may do, what it is given, and that it is there only where it is declared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from helpers.apps.cli.__main__ import cli
from helpers.domain import names
from helpers.domain.estate.coordinator import Immich, SecretKey
from helpers.domain.estate.model import Estate
from helpers.domain.estate.watchdog import ReleaseHook, TenantWatchdog
from helpers.domain.lanes.settings import CoordinatorSettings, coordinator_settings
from helpers.rendering.monitoring import scrape_jobs
from helpers.rendering.objects import Rendered
from helpers.rendering.platform import coordinator_arguments
from helpers.rendering.render import render
from tests.synth.estates import EXAMPLE, PROJECT, shipped

HOME = "gpu-system"
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


@pytest.mark.parametrize(("coordinated", "engine"), [(True, "policy"), (False, "webhook"), (True, "webhook")])
def test_gpu_system_is_rendered_once_and_before_all_that_lives_in_it(coordinated: bool, engine: str) -> None:
    admission = shipped(EXAMPLE).admission
    assert admission is not None
    update = {"admission": admission.model_copy(update={"engine": engine})}
    whole = render(ESTATE.model_copy(update=update if coordinated else update | {"coordinator": None}))
    found = [item for item in whole.objects if item.kind == "Namespace" and item.manifest["metadata"]["name"] == HOME]
    assert [(item.wave, item.address, item.retain) for item in found] == [(0, "gpu-system-namespace", True)]
    order = [item.address for item in whole.ordered()]
    inside = [item.address for item in whole.objects if item.manifest["metadata"].get("namespace") == HOME]
    assert inside
    assert all(order.index(address) > order.index("gpu-system-namespace") for address in inside)


def test_where_nobody_lives_in_gpu_system_it_is_not_made() -> None:
    whole = render(ESTATE.model_copy(update={"coordinator": None}))
    assert HOME not in {item.manifest["metadata"]["name"] for item in whole.objects}


def test_an_estate_that_calls_its_own_namespace_so_has_it_once() -> None:
    whole = render(ESTATE.model_copy(update={"namespace": HOME}))
    found = [item.address for item in whole.objects if item.manifest["metadata"]["name"] == HOME]
    assert found == ["namespace"]


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


def test_immichs_key_comes_from_its_secret_as_well() -> None:
    block = ESTATE.coordinator
    assert block is not None
    immich = Immich(url="http://immich:2283", api_key_secret=SecretKey(name="immich", key="api-key"))
    changed = render(ESTATE.model_copy(update={"coordinator": block.model_copy(update={"immich": immich})}))
    (container,) = manifest(changed, "coordinator")["spec"]["template"]["spec"]["containers"]
    filled = {one["name"]: one["valueFrom"].get("secretKeyRef") for one in container["env"] if "valueFrom" in one}
    assert filled["GPUMEM_IMMICH_API_KEY"] == {"name": "immich", "key": "api-key"}


def test_the_arguments_are_ones_that_the_command_takes() -> None:
    arguments = coordinator_arguments()
    outcome = CliRunner().invoke(cli, [*arguments, "--settings", "none.json", "--no-kubernetes"])
    assert "No such option" not in outcome.output
    assert "none.json" in str(outcome.exception)


def rules(rendered: Rendered) -> dict[str, list[tuple[list[str], list[str]]]]:
    """`{address: [(resources, verbs)]}` of every Role and ClusterRole."""
    return {
        item.address: [(rule["resources"], rule["verbs"]) for rule in item.manifest["rules"]]
        for item in rendered.wave(2).objects
        if item.kind in ("Role", "ClusterRole")
    }


LEAD = [(["leases"], ["get", "patch"]), (["leases"], ["create"])]


def test_it_may_lead_and_see_its_engines_node_and_nothing_else(rendered: Rendered) -> None:
    assert rules(rendered) == {"coordinator-role": LEAD, "coordinator-cluster-role": [(["nodes"], ["list"])]}


def test_without_a_node_to_watch_there_is_no_right_in_the_whole_cluster() -> None:
    assert rules(render(with_coordinator(watch_node=False))) == {"coordinator-role": LEAD}


def test_a_tenant_that_is_asked_to_yield_has_the_rights_in_its_namespace_alone() -> None:
    asked = render(with_coordinator(on_realtime="yield"))
    assert rules(asked)["coordinator-tenant-role-ai"] == [(["pods"], ["list"]), (["events"], ["create"])]
    assert manifest(asked, "coordinator-tenant-role-ai")["metadata"]["namespace"] == "ai"
    (subject,) = manifest(asked, "coordinator-tenant-binding-ai")["subjects"]
    assert (subject["name"], subject["namespace"]) == ("gpumem-coordinator", HOME)
    document = json.loads(manifest(asked, "coordinator-config")["data"]["coordinator.json"])
    assert [(hook["tenant"], hook["hook"]["port"]) for hook in document["hooks"]] == [("ollama", 8080)]


def with_coordinator(*, watch_node: bool = True, on_realtime: str = "wait") -> Estate:
    block = ESTATE.coordinator
    assert block is not None
    engines = tuple(one.model_copy(update={"watch_node": watch_node}) for one in block.engines)
    lanes = tuple(
        lane.model_copy(update={"on_realtime": on_realtime}) if lane.workload_class == "batch" else lane
        for lane in block.lanes
    )
    hooked = TenantWatchdog(release_hook=ReleaseHook(port=8080))
    tenants = tuple(tenant.model_copy(update={"watchdog": hooked}) for tenant in ESTATE.tenants)
    changed = block.model_copy(update={"engines": engines, "lanes": lanes})
    return ESTATE.model_copy(update={"coordinator": changed, "tenants": tenants})


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
