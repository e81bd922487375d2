"""A real Prometheus with the estate's rules: an alert that fires and resolves, and every panel's query."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from helpers.domain.estate.monitoring import JOB_EXPORTER, Monitoring
from helpers.domain.telemetry.exposition import Family, exposition
from helpers.domain.watchdog.settings import watchdog_settings
from helpers.rendering.dashboard import dashboard
from helpers.rendering.monitoring import rules_text
from lab import processes
from lab.cluster import Lab, status
from lab.errors import LabError
from lab.processes import LabProcess
from lab.programs import NoProgram, find_program
from lab.prometheus import Prometheus, Target, start_prometheus
from tests.synth.estates import example

MIB = 2**20
CARD = {"gpu": "0", "uuid": "GPU-a"}
POD = {"namespace": "immich", "pod": "immich-ml-5d9c-abcde", "container": "main"}


@dataclass
class Machine:
    """Runs processes in a folder, as a lab does, without a cluster."""

    dir: Path
    running: dict[str, LabProcess] = field(default_factory=dict)

    def spawn(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> LabProcess:
        self.running[name] = processes.start(name, command, lab_dir=self.dir, log=self.dir / f"{name}.log", env=env)
        return self.running[name]

    def stop(self, name: str) -> None:
        processes.stop([self.running.pop(name)])


@dataclass
class Scene:
    """What the exporter, capacity watch and watchdog in one would show; changed by the test as it runs."""

    free_mib: int = 9000
    told: list[tuple[dict[str, str], bool]] = field(default_factory=list)

    def text(self) -> str:
        free = Family("gpu_memory_free_bytes", "Free.")
        free.add(self.free_mib * MIB, **CARD)
        total = Family("gpu_memory_total_bytes", "All.")
        total.add(15360 * MIB, **CARD)
        used = Family("gpu_memory_used_bytes", "Used.")
        used.add((15360 - self.free_mib) * MIB, **CARD)
        rest = Family("gpu_memory_unattributed_bytes", "Nobody's.")
        rest.add(300 * MIB, **CARD)
        by_pod = Family("gpu_pod_memory_used_bytes", "A pod's.")
        by_pod.add(3500 * MIB, **POD, **CARD)
        budget = Family("gpumem_tenant_budget_bytes", "A pod's budget.")
        budget.add(3000 * MIB, **POD)
        up = Family("gpu_sample_up", "Whole.")
        up.add(1, **CARD)
        source = Family("gpu_telemetry_up", "Answers.")
        source.add(1)
        shown = Family("gpumem_capacity_advertised_bytes", "The number.")
        shown.add(14000 * MIB, node="t4-node")
        last = Family("gpumem_watchdog_last_pass_timestamp_seconds", "Passed.")
        last.add(0)
        acts = Family("gpumem_watchdog_recycles_total", "Acts.", "counter")
        acts.add(2, tenant="immich-ml", outcome="dry_run")
        dry = Family("gpumem_watchdog_dry_run", "Only says.")
        dry.add(1, tenant="immich-ml")
        asked = Family("kube_pod_container_resource_limits", "Asked.")
        asked.add(3000, **POD, resource="viktorbarzin_me_gpumem", unit="integer")
        waits = Family("kube_pod_status_unschedulable", "Waits.")
        waits.add(1, namespace=POD["namespace"], pod=POD["pod"])
        there = Family("kube_node_status_allocatable", "There.")
        there.add(14000, node="t4-node", resource="viktorbarzin_me_gpumem")
        return exposition(
            [free, total, used, rest, by_pod, budget, up, source, shown, last, acts, dry, asked, waits, there]
        )


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


@pytest.fixture(scope="module")
def web(scene: Scene) -> Iterator[str]:
    """`host:port` of a server that shows the scene at /metrics and takes alerts as an Alertmanager does."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(scene.text().encode())

        def do_POST(self) -> None:
            for alert in json.loads(self.rfile.read(int(self.headers["Content-Length"]))):
                # Now and not later: a firing one, too, is told with an end, some seconds ahead.
                scene.told.append((alert["labels"], datetime.fromisoformat(alert["endsAt"]) <= datetime.now(UTC)))
            self._answer(b"")

        def _answer(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def prometheus(web: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    found = find_program("prometheus", print)
    if isinstance(found, NoProgram):
        pytest.skip(f"no prometheus: {found.reason}")
    estate = example()
    short = Monitoring(low_for_seconds=1, keep_firing_for_seconds=4, scrape_interval_seconds=1)
    machine = Machine(tmp_path_factory.mktemp("prometheus"))
    try:
        yield start_prometheus(
            machine,
            [Target(JOB_EXPORTER, web, {"node": "t4-node"})],
            rules_text(estate, watchdog_settings(estate), short),
            interval_seconds=0.5,
            alertmanager_url=f"http://{web}",
        )
    finally:
        for name in list(machine.running):
            machine.stop(name)


def test_pressure_fires_an_alert_that_is_held_and_then_resolves(prometheus: Prometheus, scene: Scene) -> None:
    prometheus.wait_for(lambda one: one.value('up{job="gpumem-exporter"}') == 1)
    assert prometheus.firing("GPUVRAMLow") == []
    scene.free_mib = 1000
    fired_after_seconds = prometheus.wait_for(lambda one: bool(one.firing("GPUVRAMLow")))
    (alert,) = prometheus.firing("GPUVRAMLow")
    assert alert["labels"] == {
        "alertname": "GPUVRAMLow",
        "severity": "critical",
        "node": "t4-node",
        "gpu": "0",
        "uuid": "GPU-a",
    }
    assert alert["annotations"]["description"].startswith("1000 MiB are free, under the floor of 1536 MiB")
    scene.free_mib = 9000
    prometheus.wait_for(lambda one: one.value("min(gpu_memory_free_bytes)") == 9000 * MIB)
    prometheus.wait_for(lambda one: any("keepFiringSince" in alert for alert in one.firing("GPUVRAMLow")))
    held_seconds = prometheus.wait_for(lambda one: not one.firing("GPUVRAMLow"))
    print(f"GPUVRAMLow fired {fired_after_seconds:.1f} s after pressure, was held {held_seconds:.1f} s more")
    # What an Alertmanager is told: that it fires, and later that the same alert has ended.
    prometheus.wait_for(lambda _: (alert["labels"], True) in scene.told)
    assert (alert["labels"], False) in scene.told


def _expressions() -> list[tuple[str, str]]:
    estate = example()
    model = dashboard(estate, watchdog_settings(estate), Monitoring())
    panels = [
        (f"{panel['title']} {target['refId']}", target["expr"])
        for panel in model["panels"]
        for target in panel.get("targets", [])
    ]
    return [*panels, *((one["name"], one["expr"]) for one in model["annotations"]["list"])]


@pytest.mark.parametrize(("where", "expr"), _expressions(), ids=[where for where, _ in _expressions()])
def test_every_query_of_the_dashboard_finds_something(prometheus: Prometheus, where: str, expr: str) -> None:
    plain = expr.replace("$__rate_interval", "1m").replace("$card", "GPU-.*").replace("$node", ".*")
    assert "$" not in plain, "a variable that the dashboard does not define"
    prometheus.wait_for(lambda one: bool(one.query(plain)))


def test_the_figures_of_the_card_are_those_of_the_scene(prometheus: Prometheus, scene: Scene) -> None:
    queries = {where: re.sub(r"\$card", "GPU-.*", expr) for where, expr in _expressions()}
    scene.free_mib = 9000
    prometheus.wait_for(lambda one: one.value("min(gpu_memory_free_bytes)") == 9000 * MIB)
    shown = [prometheus.value(queries[f"Memory by tenant {ref}"]) for ref in "ABCDEF"]
    assert shown == [3500, 300, 3000, 14000, 15360, 15360 - 1536]
    assert prometheus.value(queries["Over budget A"]) == 500
    assert prometheus.value(queries["Pods that find no memory A"]) == 1
    assert prometheus.value(queries["Nodes without their number A"]) == 0
    assert prometheus.value(queries["Cards with unknown use A"]) == 0


def test_every_rule_is_evaluated_without_an_error(prometheus: Prometheus) -> None:
    groups = prometheus._get("rules", {})["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == 11
    prometheus.wait_for(lambda one: all(
        rule["health"] == "ok" for group in one._get("rules", {})["groups"] for rule in group["rules"]
    ))  # fmt: skip


def test_a_refused_query_says_why(prometheus: Prometheus) -> None:
    with pytest.raises(LabError, match="unclosed left parenthesis"):
        prometheus.query("sum(gpu_memory_free_bytes")


def test_one_value_of_many_series_is_an_error(prometheus: Prometheus) -> None:
    prometheus.wait_for(lambda one: len(one.query("gpu_sample_up or gpu_telemetry_up")) == 2)
    with pytest.raises(LabError, match="2 series, one was expected"):
        prometheus.value("gpu_sample_up or gpu_telemetry_up")


def test_a_range_comes_as_prometheus_writes_it(prometheus: Prometheus) -> None:
    prometheus.wait_for(lambda one: bool(one.query("gpu_sample_up")))
    now = prometheus.value("time()")
    assert now is not None
    answer = prometheus.query_range("gpu_sample_up", now - 1, now, 1)
    assert answer["status"] == "success"
    assert answer["data"]["resultType"] == "matrix"


def test_a_prometheus_with_broken_rules_is_an_error_with_its_log(tmp_path: Path) -> None:
    found = find_program("prometheus", print)
    if isinstance(found, NoProgram):
        pytest.skip(f"no prometheus: {found.reason}")
    machine = Machine(tmp_path)
    with pytest.raises(LabError, match=r"(?s)prometheus ended at once: .*could not parse expression"):
        start_prometheus(machine, [], "groups: [{name: a, rules: [{alert: A, expr: 'nonsense ((('}]}]")


@pytest.mark.lab
def test_in_a_lab_it_is_one_of_the_labs_processes(lab: Lab) -> None:
    found = find_program("prometheus", print)
    if isinstance(found, NoProgram):
        pytest.skip(f"no prometheus: {found.reason}")
    one = start_prometheus(lab, [Target("nobody", "127.0.0.1:9", {"node": "bare-0"})], "groups: []")
    try:
        one.wait_for(lambda it: it.value('up{job="nobody", node="bare-0"}') == 0)
        assert {"prometheus"} <= {process["name"] for process in status(lab.name, lab.dir.parents[1])["processes"]}
    finally:
        lab.stop("prometheus")
    with pytest.raises(LabError, match="does not answer"):
        one.query("up")
