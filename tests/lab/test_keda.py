"""Rendered ScaledObjects on a real KEDA, which asks a real Prometheus about a real coordinator and its queue.

KEDA takes many minutes to build, so it is built on request alone: `python -m lab.prepare --with-keda`.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from helpers.domain.lanes.settings import CoordinatorSettings, coordinator_settings
from helpers.rendering.render import render
from lab.cluster import Lab
from lab.gates import GatedTenants, gates_node
from lab.keda import MODULE, Keda, keda, keda_crds
from lab.programs import NoProgram, find_program
from lab.prometheus import Target, start_prometheus
from lab.queues.apps import App, app
from lab.queues.coordinators import CoordinatorProcess
from lab.redis_server import redis_server
from lab.small_exporter import LabExporter, lab_exporter
from lab.toolchain import built_module
from lab.waiting import wait_for
from tests.fakes.gates import guide_estate
from tests.queues.conftest import why_not

pytestmark = pytest.mark.lab

NODE, QUEUE = "keda-node", "q"
VLLM, PLEX = ("ai-dev", "vllm-server"), ("media", "plex")
# Longer than poll, scrape and cooldown together: what has not happened by then does not happen.
LONG_SECONDS = 15


def hours(begin: int, end: int) -> str:
    """A window in UTC, from so many hours after now to so many."""
    now = datetime.now(UTC)
    first, last = (now + timedelta(hours=shift) for shift in (begin, end))
    return f'{{from: "{first:%H}:00", to: "{last:%H}:59"}}'


def scaled(prometheus_url: str, *, vllm: str = "", plex: str = "") -> dict[str, Any]:
    """`{address: ScaledObject}` of the guide's estate with KEDA, quick, and these windows."""
    quick = "      engine: keda\n      open_after_seconds: 1\n      close_after_seconds: 3\n"
    estate = guide_estate(
        **{
            "  demand_gates:\n": f'  keda: {{prometheus_url: "{prometheus_url}", polling_seconds: 1}}\n'
            "  demand_gates:\n",
            "      tenant: vllm\n": f"      tenant: vllm\n      lane: jobs\n{quick}",
            "      tenant: plex\n": f"      tenant: plex\n{quick}",
            "  engines:\n": f"  lanes: [{{name: jobs, queues: [{QUEUE}], class: batch, tenant: vllm, "
            "vram_mib: 8000}]\n  engines:\n",
            '      windows: [{days: [mon, tue, wed, thu, fri], from: "08:00", to: "18:00", time_zone: Europe/Berlin}]\n'
            "    - name: plex": f"      windows: [{vllm}]\n    - name: plex",
            '{from: "18:00", to: "24:00", time_zone: Europe/Berlin}': plex or hours(2, 3),
        }
    )
    found = {item.address: dict(item.manifest) for item in render(estate).wave(2).objects}
    return {key: item for key, item in found.items() if key.startswith("scaled-object-")}


def settings(redis_url: str) -> CoordinatorSettings:
    """Its lane, and no engine: nothing is away here."""
    lane = f"  lanes: [{{name: jobs, queues: [{QUEUE}], class: batch, tenant: vllm, vram_mib: 8000}}]\n  engines:\n"
    found = coordinator_settings(guide_estate(**{"  engines:\n": lane}))
    assert found is not None
    document = json.loads(found.to_json()) | {"gates": [], "engines": [], "poll_seconds": 0.5}
    document["redis"]["url"] = redis_url
    return CoordinatorSettings.model_validate_json(json.dumps(document))


@dataclass
class Scene:
    keda: Keda
    tenants: GatedTenants
    exporter: LabExporter
    application: App
    coordinator: CoordinatorProcess
    prometheus_url: str

    def waiting_count(self) -> int:
        """Jobs that wait, as the coordinator sees them."""
        with urllib.request.urlopen(f"{self.coordinator.url}/v1/lanes", timeout=10) as answer:
            (lane,) = json.load(answer)["lanes"]
        return int(lane["waiting_count"])

    def replicas(self, one: tuple[str, str]) -> int:
        return self.tenants.replicas(*one)


@pytest.fixture(scope="module")
def tools() -> dict[str, Any]:
    found = built_module(MODULE)
    if found is None:
        pytest.skip("KEDA is not built here (many minutes, once): python -m lab.prepare --with-keda")
    return dict(found)


@pytest.fixture(scope="module")
def scene(lab: Lab, tools: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    if problem := why_not():
        pytest.skip(problem)
    found = find_program("prometheus")
    if isinstance(found, NoProgram):
        pytest.skip(found.reason)
    folder = tmp_path_factory.mktemp("keda")
    lab.node_add(gates_node(NODE))
    with ExitStack() as stack:
        stack.callback(lab.node_remove, NODE)
        tenants = GatedTenants(lab, NODE, {("ai", "tts"): 3500, VLLM: 8500, PLEX: 3900})
        stack.callback(tenants.delete)
        tenants.create()
        tenants.scale("ai", "tts", 1)
        exporter = stack.enter_context(lab_exporter(NODE, lab.read_usage))
        exporter.interval_seconds = 0.2
        server = stack.enter_context(redis_server(folder / "redis", durable=False))
        application = stack.enter_context(app(server.url, 5))
        running = CoordinatorProcess(settings(server.url), folder / "coordinator")
        stack.callback(running.stop)
        running.ready()
        wait_for(lambda: running.of("http_served"))
        targets = [
            Target("gpumem-exporter", f"127.0.0.1:{exporter.port}", {"node": "homelabai"}),
            Target("gpumem-coordinator", running.url.removeprefix("http://")),
        ]
        prometheus = start_prometheus(lab, targets, "groups: []")
        stack.callback(lab.stop, "prometheus")
        engine = stack.enter_context(keda(lab, tools))
        yield Scene(engine, tenants, exporter, application, running, prometheus.url)


def test_what_is_rendered_is_what_kedas_own_schema_allows(scene: Scene) -> None:
    for manifest in scaled(scene.prometheus_url, vllm=hours(-1, 1)).values():
        scene.keda.apply(manifest)
        scene.keda.delete(manifest)
        broken = json.loads(json.dumps(manifest))
        broken["spec"]["cooldown"] = 1
        with pytest.raises(Exception, match="cooldown"):
            scene.keda.apply(broken)


def test_it_runs_while_work_waits_and_its_lane_is_open_and_not_while_the_queue_is_paused(scene: Scene) -> None:
    manifest = scaled(scene.prometheus_url, vllm=hours(-1, 1))["scaled-object-vllm"]
    scene.keda.apply(manifest)
    try:
        wait_for(lambda: scene.keda.conditions(manifest).get("Ready") == "True")
        time.sleep(LONG_SECONDS)
        assert scene.replicas(VLLM) == 0  # nothing waits
        scene.application.add(QUEUE, 1, 2, 3)
        wait_for(lambda: "vllm-server" in scene.tenants.pods("Running"))
        time.sleep(LONG_SECONDS)
        assert scene.replicas(VLLM) == 1  # and it stays: its own use of the card does not close it
        scene.application.ask("pause", queue=QUEUE)
        wait_for(lambda: scene.replicas(VLLM) == 0)
        time.sleep(LONG_SECONDS)
        assert scene.replicas(VLLM) == 0
        assert scene.waiting_count() == 3  # all the while
        scene.application.ask("resume", queue=QUEUE)
        wait_for(lambda: "vllm-server" in scene.tenants.pods("Running"))
        scene.tenants.lab.set_usage("ai", "tts", 6000)
        wait_for(lambda: scene.replicas(VLLM) == 0)  # 410 MiB are free
        wait_for(lambda: "vllm-server" not in scene.tenants.pods())
        scene.tenants.lab.set_usage("ai", "tts", 3500)
        wait_for(lambda: "vllm-server" in scene.tenants.pods("Running"))
        scene.exporter.fault = lambda _: ""
        time.sleep(2 * LONG_SECONDS)
        assert scene.replicas(VLLM) == 1  # nothing is known of the card: no series is no 0
    finally:
        scene.exporter.fault = lambda text: text
        scene.keda.delete(manifest)
        scene.tenants.scale(*VLLM, 0)
        wait_for(lambda: "vllm-server" not in scene.tenants.pods())


@pytest.mark.parametrize(("window", "replicas"), [((-1, 1), 1), ((2, 3), 0)])
def test_it_runs_in_its_hours_and_not_outside(window: tuple[int, int], replicas: int, scene: Scene) -> None:
    manifest = scaled(scene.prometheus_url, vllm=hours(2, 3), plex=hours(*window))["scaled-object-plex"]
    scene.keda.apply(manifest)
    try:
        wait_for(lambda: scene.keda.conditions(manifest).get("Ready") == "True")
        if replicas:
            wait_for(lambda: scene.replicas(PLEX) == 1)
        time.sleep(LONG_SECONDS)
        assert scene.replicas(PLEX) == replicas
    finally:
        scene.keda.delete(manifest)
        scene.tenants.scale(*PLEX, 0)
        wait_for(lambda: "plex" not in scene.tenants.pods())


def test_a_dry_run_leaves_the_replicas_alone(scene: Scene) -> None:
    manifest = scaled(scene.prometheus_url, vllm=hours(2, 3), plex=hours(-1, 1))["scaled-object-plex"]
    manifest["metadata"] = dict(manifest["metadata"]) | {"annotations": {"autoscaling.keda.sh/paused": "true"}}
    scene.keda.apply(manifest)
    try:
        wait_for(lambda: scene.keda.conditions(manifest).get("Paused") == "True")
        time.sleep(LONG_SECONDS)
        assert scene.replicas(PLEX) == 0
    finally:
        scene.keda.delete(manifest)


def test_the_schema_comes_with_the_pinned_module(tools: dict[str, Any]) -> None:
    assert "scaledobjects.keda.sh" in {crd["metadata"]["name"] for crd in keda_crds()}
