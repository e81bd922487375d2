"""Demand gates on a real API server with real controllers, a real Redis and the coordinator's own clock set."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from helpers.adapters.kubernetes_ import connect
from helpers.domain.lanes.settings import CoordinatorSettings, coordinator_settings
from helpers.services.release import release, restore
from lab.cluster import Lab
from lab.gates import GatedTenants, SetClock, coordinating, gates_node, quick
from lab.programs import NoProgram, find_program
from lab.redis_server import redis_server
from lab.small_exporter import LabExporter, lab_exporter
from lab.waiting import wait_for
from tests.fakes.gates import guide_estate

pytestmark = pytest.mark.lab

NODE = "gates"
# The lab's card has 14910 MiB free: with tts only one of the three finds the room that it wants.
TENANTS = {("ai", "tts"): 3500, ("ai-dev", "vllm-server"): 8500, ("media", "plex"): 3900, ("ai-dev", "training"): 8900}
GATED = {"vllm-server", "plex", "training"}


def berlin(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=ZoneInfo("Europe/Berlin"))


NOON, EVENING, NIGHT, MORNING = berlin(25, 12), berlin(25, 18, 30), berlin(26, 1), berlin(26, 9)


@pytest.fixture(scope="module")
def scene(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatedTenants, LabExporter, str]]:
    found = find_program("redis-server")
    if isinstance(found, NoProgram):
        pytest.skip(found.reason)
    lab.node_add(gates_node(NODE))
    with ExitStack() as stack:
        stack.callback(lab.node_remove, NODE)
        tenants = GatedTenants(lab, NODE, TENANTS)
        stack.callback(tenants.delete)
        tenants.create()
        tenants.scale("ai", "tts", 1)
        exporter = stack.enter_context(lab_exporter(NODE, lab.read_usage))
        exporter.interval_seconds = 0.2
        server = stack.enter_context(redis_server(tmp_path_factory.mktemp("gates") / "redis", durable=False))
        wait_for(lambda: tenants.pods("Running") == ["tts"])
        yield tenants, exporter, server.url


def settings_of(scene: tuple[GatedTenants, LabExporter, str]) -> CoordinatorSettings:
    settings = coordinator_settings(guide_estate())
    assert settings is not None
    return quick(settings, scene[2], scene[1])


def test_vllm_by_day_plex_in_the_evening_training_at_night(
    lab: Lab, scene: tuple[GatedTenants, LabExporter, str]
) -> None:
    tenants, _, _ = scene
    clock = SetClock(NOON)
    # Other tests' coordinators wrote Events on workloads of these names.
    before = {one: len(tenants.events(*one)) for one in (("media", "plex"), ("ai-dev", "vllm-server"))}
    with tenants.counted(GATED) as most, coordinating(settings_of(scene), lab.kubeconfig, clock):
        for at, name in ((NOON, "vllm-server"), (EVENING, "plex"), (NIGHT, "training"), (MORNING, "vllm-server")):
            clock.at = at
            wait_for(lambda wanted=name: tenants.pods("Running") == sorted(["tts", wanted]))  # type: ignore[misc]
        clock.at = berlin(26, 7, 45)
        wait_for(lambda: tenants.pods() == ["tts"])
    assert most == [1]
    written = {one: tenants.events(*one)[count:] for one, count in before.items()}
    assert written["media", "plex"] == ["GpumemGateOpened", "GpumemGateClosed"]
    assert written["ai-dev", "vllm-server"] == ["GpumemGateOpened", "GpumemGateClosed"] * 2


def test_a_persons_release_wins_and_restore_gives_it_back(
    lab: Lab, scene: tuple[GatedTenants, LabExporter, str]
) -> None:
    tenants, _, _ = scene
    settings = settings_of(scene)
    (identity,) = [rule.workload for rule in settings.gates if rule.name == "plex"]
    cluster = connect(lab.kubeconfig)
    with coordinating(settings, lab.kubeconfig, SetClock(EVENING)):
        wait_for(lambda: "plex" in tenants.pods("Running"))
        release(cluster, identity, "gpumem.io", gated=True)
        wait_for(lambda: "plex" not in tenants.pods())
        time.sleep(6)
        assert tenants.replicas("media", "plex") == 0
        restore(cluster, identity, "gpumem.io", gated=True)
        wait_for(lambda: "plex" in tenants.pods("Running"))
    tenants.scale("media", "plex", 0)
    wait_for(lambda: "plex" not in tenants.pods())


def test_others_that_press_on_the_memory_close_it_and_it_comes_back(
    lab: Lab, scene: tuple[GatedTenants, LabExporter, str]
) -> None:
    tenants, _, _ = scene
    with coordinating(settings_of(scene), lab.kubeconfig, SetClock(EVENING)):
        wait_for(lambda: "plex" in tenants.pods("Running"))
        lab.set_usage("ai", "tts", 10500)
        wait_for(lambda: tenants.pods() == ["tts"])
        time.sleep(4)
        assert tenants.replicas("media", "plex") == 0
        lab.set_usage("ai", "tts", 3500)
        wait_for(lambda: "plex" in tenants.pods("Running"))
    tenants.scale("media", "plex", 0)
    wait_for(lambda: "plex" not in tenants.pods())


def test_a_coordinator_that_follows_another_goes_on_with_what_runs(
    lab: Lab, scene: tuple[GatedTenants, LabExporter, str], tmp_path: Path
) -> None:
    tenants, _, _ = scene
    for _ in range(2):
        with coordinating(settings_of(scene), lab.kubeconfig, SetClock(EVENING)):
            wait_for(lambda: "plex" in tenants.pods("Running"))
            time.sleep(3)
    assert tenants.replicas("media", "plex") == 1
    tenants.scale("media", "plex", 0)
    wait_for(lambda: "plex" not in tenants.pods())
