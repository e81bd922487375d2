"""The coordinator has exactly the rights that its gates need: without any one of them something stops, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from helpers.domain.demand_gates.rights import gate_rights
from helpers.domain.lanes.rights import coordinator_rights
from helpers.domain.lanes.settings import CoordinatorSettings, coordinator_settings
from lab.cluster import Lab
from lab.gates import HOME, GatedTenants, gates_node, quick
from lab.programs import NoProgram, find_program
from lab.queues.coordinators import CoordinatorProcess, InCluster
from lab.redis_server import redis_server
from lab.rights import grant_rights
from lab.small_exporter import lab_exporter
from lab.waiting import wait_for
from tests.fakes.gates import guide_estate

pytestmark = pytest.mark.lab

NODE, NAMESPACE, NAME = "gate-rights", "media", "plex"
SETTINGS = coordinator_settings(guide_estate())
assert SETTINGS is not None
RIGHTS = (*coordinator_rights(SETTINGS), *gate_rights(SETTINGS.gates, NAMESPACE))
VERBS = sorted({f"{verb} {right.resource}" for right in gate_rights(SETTINGS.gates, NAMESPACE) for verb in right.verbs})

Scene = tuple[GatedTenants, CoordinatorSettings]


@pytest.fixture(scope="module")
def scene(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    found = find_program("redis-server")
    if isinstance(found, NoProgram):
        pytest.skip(found.reason)
    lab.node_add(gates_node(NODE))
    with ExitStack() as stack:
        stack.callback(lab.node_remove, NODE)
        tenants = GatedTenants(lab, NODE, {(NAMESPACE, NAME): 3900})
        stack.callback(tenants.delete)
        tenants.create()
        exporter = stack.enter_context(lab_exporter(NODE, lab.read_usage))
        server = stack.enter_context(redis_server(tmp_path_factory.mktemp("rights") / "redis", durable=False))
        assert SETTINGS is not None
        whole = quick(SETTINGS, server.url, exporter, windows=[])
        plex = tuple(rule for rule in whole.gates if rule.name == NAME)
        engines = tuple(rule for rule in whole.engines if rule.engine.tenant == NAME)
        yield tenants, whole.model_copy(update={"gates": plex, "engines": engines})


def begun(lab: Lab, scene: Scene, folder: Path, without: str) -> CoordinatorProcess:
    tenants, settings = scene
    tenants.scale(NAMESPACE, NAME, 0)
    wait_for(lambda: not tenants.pods())
    kubeconfig = grant_rights(
        lab,
        HOME,
        "gpumem-coordinator",
        RIGHTS,
        [("cluster", ""), ("namespace", HOME), ("tenants", NAMESPACE)],
        without=without,
    )
    return CoordinatorProcess(settings, folder, cluster=InCluster(kubeconfig, HOME))


@pytest.mark.parametrize("verb", VERBS)
def test_each_right_is_needed(verb: str, lab: Lab, scene: Scene, tmp_path: Path) -> None:
    tenants, _ = scene
    before = tenants.events(NAMESPACE, NAME)
    running = begun(lab, scene, tmp_path, verb)
    try:
        if verb == "create events":
            wait_for(lambda: running.of("event_not_written"))
            assert tenants.replicas(NAMESPACE, NAME) == 1
            return
        line: dict[str, Any] = wait_for(lambda: running.of("gate_not_seen"))[0]
        assert "cannot" in line["reason"]
        assert verb.split()[1] in line["reason"]
        assert tenants.replicas(NAMESPACE, NAME) == 0
        if verb.startswith("patch"):
            wait_for(lambda: tenants.events(NAMESPACE, NAME)[len(before) :] == ["GpumemGateFailed"])
    finally:
        running.stop()


def test_with_all_of_them_it_opens_and_says_so(lab: Lab, scene: Scene, tmp_path: Path) -> None:
    tenants, _ = scene
    running = begun(lab, scene, tmp_path, "")
    try:
        wait_for(lambda: tenants.pods("Running") == [NAME])
        wait_for(lambda: tenants.events(NAMESPACE, NAME)[-1:] == ["GpumemGateOpened"])
        assert not running.of("gate_not_seen")
        assert not running.of("event_not_written")
    finally:
        running.stop()
