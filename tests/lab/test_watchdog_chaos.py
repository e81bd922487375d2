"""The watchdog as a process with its own rights on a real API server, while everything around it fails.

Over all of it: nothing in budget is ever recycled, nothing acts on unknown, and it recovers by itself.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.cluster import Lab
from lab.incident import FLOOR_MIB, Running, Tenants, grant, t4_node, wait_free, watchdog
from lab.small_exporter import LabExporter, lab_exporter
from lab.waiting import wait_for
from tests.fakes.api_proxy import ApiProxy, Fault, api_proxy

pytestmark = pytest.mark.lab

# Quick, so that a minute of chaos is many intervals; the decisions are the same.
QUICK: dict[str, Any] = {"interval_seconds": 1.0, "cooldown_seconds": 0.0, "confirm_seconds": 0.5}
# Several intervals with their second looks: an act that would come, would have come.
QUIET_SECONDS = 6.0
_COUNT = itertools.count()


class Scene:
    """One test's node, tenants, exporter and watchdogs."""

    def __init__(self, lab: Lab, folder: Path, stack: ExitStack) -> None:
        number = next(_COUNT)
        self.lab, self.folder, self.stack = lab, folder, stack
        self.node, self.namespace = f"chaos-{number}", f"chaos-{number}"
        self.home = f"watch-{number}"
        lab.node_add(t4_node(self.node))
        stack.callback(lab.node_remove, self.node)
        self.tenants = Tenants(lab, self.namespace, self.node)
        stack.callback(self.tenants.delete)
        self.exporter: LabExporter = stack.enter_context(lab_exporter(self.node, lab.read_usage))
        self.exporter.interval_seconds = 0.2
        self.before: dict[str, str] = {}

    def begin(self, **annotations: dict[str, str]) -> None:
        self.tenants.create(**annotations)
        self.before = self.tenants.running()

    def watch(self, name: str = "watchdog", kubeconfig: Path | None = None, **more: Any) -> Running:
        settings = self.tenants.settings(**(QUICK | more))
        rights = grant(self.lab, self.home, allow_delete=settings.allow_delete)
        wait = kubeconfig is None and name == "watchdog"
        return self.stack.enter_context(
            watchdog(
                self.folder,
                kubeconfig or rights,
                settings,
                [self.exporter.target],
                namespace=self.home,
                name=name,
                wait=wait,
            )
        )

    def untouched(self, *tenants: str) -> bool:
        """Whether these tenants still have the very pods that they began with."""
        now = self.tenants.running()
        return all(now.get(tenant) == self.before[tenant] for tenant in tenants)

    def quiet(self, seconds: float = QUIET_SECONDS) -> None:
        """Nobody is touched for a while."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.untouched("immich-ml", "frigate", "ollama")
            time.sleep(0.3)

    def recycled(self) -> None:
        """The grown tenant is, and nobody else."""
        wait_free(self.tenants)
        assert self.untouched("frigate", "ollama")
        assert not self.untouched("immich-ml")

    def proxy(self) -> ApiProxy:
        token = re.search(r"token: (\S+)", grant(self.lab, self.home).read_text())
        assert token is not None
        ca = self.lab.paths.pki / "ca.crt"
        return self.stack.enter_context(api_proxy(self.lab.server, ca, token[1].strip('"')))


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(lab, tmp_path, stack)


def test_the_incident_is_ended_with_exactly_the_watchdogs_rights(scene: Scene) -> None:
    scene.begin()
    running = scene.watch()
    scene.tenants.grow()
    scene.recycled()
    wait_for(lambda: running.lines("recycle_finished"))
    (finished,) = running.lines("recycle_finished")
    assert (finished["decision"], finished["freed_mib"]) == ("evicted", 10957)
    told = wait_for(lambda: seen if len(seen := [e["reason"] for e in scene.tenants.events()]) > 1 else [])
    assert {"GpumemRecycling", "GpumemRecycled"} <= set(told)


def test_dry_run_touches_nobody_and_says_on_the_pod_what_it_would_do(scene: Scene) -> None:
    scene.begin()
    scene.watch(dry_run=True)
    scene.tenants.grow()
    (event,) = wait_for(lambda: [e for e in scene.tenants.events() if e["reason"] == "GpumemWouldRecycle"])
    assert "the eviction would be accepted" in event["message"]
    scene.quiet(3)


FAULTS: dict[str, Callable[[str], str | None]] = {
    "stalls": lambda text: None,
    "empty": lambda text: "\n",
    "malformed": lambda text: text.replace("gpu_memory_free_bytes{", "gpu_memory_free_bytes{{"),
    "negative": lambda text: re.sub(r"(gpu_memory_free_bytes\{.*\}) \d+", r"\1 -5", text),
    "contradictory": lambda text: re.sub(r"(gpu_memory_used_bytes\{.*\}) \d+", r"\1 99999999999", text),
    "failed": lambda text: re.sub(r"(gpu_sample_up\{.*\}) 1", r"\1 0", text),
    "frozen": lambda text: re.sub(r"(gpu_sample_timestamp_seconds\{.*\}) \S+", r"\1 1780000000", text),
}


def test_an_exporter_that_stalls_or_lies_causes_nothing_and_is_believed_again_when_it_is_true(scene: Scene) -> None:
    scene.begin()
    scene.exporter.fault = FAULTS["failed"]
    running = scene.watch()
    scene.tenants.grow()
    for fault in FAULTS.values():
        scene.exporter.fault = fault
        scene.quiet(3)
    scene.exporter.fault = lambda text: text
    scene.recycled()
    assert running.process.poll() is None


@pytest.mark.parametrize("skew_seconds", [-3600.0, 3600.0], ids=["back", "ahead"])
def test_an_exporter_whose_clock_jumps_causes_nothing(scene: Scene, skew_seconds: float) -> None:
    scene.begin()
    scene.watch()
    scene.exporter.skew_seconds = skew_seconds
    time.sleep(1)
    scene.tenants.grow()
    scene.quiet()
    scene.exporter.skew_seconds = 0.0
    scene.recycled()


def _too_many(method: str, path: str) -> Fault:
    return 429


def _broken(method: str, path: str) -> Fault:
    return 500


def _hangs(method: str, path: str) -> Fault:
    return "hang"


@pytest.mark.parametrize("fault", [_too_many, _broken, _hangs], ids=["429", "500", "timeouts"])
def test_an_api_that_fails_delays_the_recycle_and_nothing_else(
    scene: Scene, fault: Callable[[str, str], Fault]
) -> None:
    scene.begin()
    proxy = scene.proxy()
    running = scene.watch(kubeconfig=proxy.kubeconfig(scene.folder), stale_after_intervals=10)
    wait_for(lambda: running.lines("pass_finished"))
    proxy.fault = fault
    scene.tenants.grow()
    scene.quiet(4)
    proxy.fault = lambda method, path: None
    scene.recycled()
    assert running.process.poll() is None


def test_evictions_that_the_api_answers_with_errors_delete_nobody(scene: Scene) -> None:
    scene.begin()
    proxy = scene.proxy()
    proxy.fault = lambda method, path: 500 if path.endswith("/eviction") else None
    running = scene.watch(
        kubeconfig=proxy.kubeconfig(scene.folder),
        allow_delete=True,
        on_blocked="delete",
        eviction_timeout_seconds=2,
        eviction_retry_seconds=0.5,
    )
    wait_for(lambda: running.lines("pass_finished"))
    scene.tenants.grow()
    wait_for(lambda: [line for line in running.lines("recycle_finished") if line["decision"] == "failed"])
    assert scene.untouched("immich-ml", "frigate", "ollama")
    assert not [request for request in proxy.requests if request.startswith("DELETE")]
    proxy.fault = lambda method, path: None
    scene.recycled()


def test_steady_state_asks_the_api_less_than_once_a_second(scene: Scene) -> None:
    scene.begin()
    proxy = scene.proxy()
    running = scene.watch(kubeconfig=proxy.kubeconfig(scene.folder))
    wait_for(lambda: running.lines("pass_finished"))
    time.sleep(3)
    before, began = proxy.requests.total(), time.monotonic()
    time.sleep(15)
    assert (proxy.requests.total() - before) / (time.monotonic() - began) <= 1.0
    assert not [request for request in proxy.requests if request == "GET /api/v1/nodes"]


def test_of_two_watchdogs_one_acts_and_once(scene: Scene) -> None:
    scene.begin()
    first = scene.watch()
    second = scene.watch("second")
    wait_for(lambda: second.lines("started"))
    time.sleep(2)
    scene.tenants.grow()
    scene.recycled()
    wait_for(lambda: first.lines("recycle_finished"))
    assert not second.lines("recycle_started")
    assert len(first.lines("recycle_started")) == 1


def test_a_leader_killed_mid_act_is_followed_without_a_second_victim(scene: Scene) -> None:
    scene.begin(immich_ml={"terminate_after_seconds": "25", "used_mib": "1000"})
    first = scene.watch()
    second = scene.watch("second")
    scene.tenants.grow("ollama", 5100)  # over its budget, too: the next in the row
    scene.tenants.grow("immich-ml", 6600)
    wait_for(lambda: first.lines("recycle_step"))
    first.kill()
    wait_free(scene.tenants)
    wait_for(lambda: second.lines("recycle_settled"))
    assert second.lines("recycle_settled")[0]["decision"] == "evicted"
    assert not second.lines("recycle_started")
    assert scene.untouched("frigate", "ollama")


def test_a_leader_that_was_frozen_and_overtaken_does_not_act_when_it_wakes(scene: Scene) -> None:
    scene.begin()
    scene.exporter.fault = FAULTS["failed"]
    first = scene.watch()
    second = scene.watch("second")
    wait_for(lambda: second.lines("started"))
    first.pause()
    wait_for(lambda: second.lines("leadership_won"))
    scene.tenants.grow()
    scene.exporter.fault = lambda text: text
    first.resume()
    scene.recycled()
    wait_for(lambda: second.lines("recycle_finished"))
    assert not first.lines("recycle_started")


def test_a_node_that_registers_again_changes_nothing(scene: Scene) -> None:
    scene.begin()
    scene.watch()
    scene.lab.node_reregister(scene.node)
    scene.before = wait_for(lambda: seen if len(seen := scene.tenants.running()) == 3 else {})
    scene.quiet(3)
    scene.tenants.grow()
    scene.recycled()


def test_a_pod_that_never_ends_costs_no_second_one(scene: Scene) -> None:
    scene.begin(immich_ml={"terminate_after_seconds": "600", "used_mib": "1000"})
    running = scene.watch(gone_timeout_seconds=3)
    scene.tenants.grow("ollama", 5100)
    scene.tenants.grow("immich-ml", 6600)
    wait_for(lambda: running.lines("recycle_finished"))
    assert running.lines("recycle_finished")[0]["decision"] == "stuck_terminating"
    waits = wait_for(lambda: [n for n in running.lines("not_recycled") if n["reason"] == "memory_on_its_way_back"])
    assert "is terminating" in waits[0]["text"]
    until = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < until:
        assert scene.untouched("frigate", "ollama")
        time.sleep(0.3)
    assert len(running.lines("recycle_started")) == 1
    assert scene.tenants.free_mib() < FLOOR_MIB


def test_a_disruption_budget_that_never_yields_is_given_up_with_an_event(scene: Scene) -> None:
    scene.begin()
    scene.tenants.disruption_budget("immich-ml")
    running = scene.watch(eviction_timeout_seconds=3, eviction_retry_seconds=0.5, cooldown_seconds=300)
    scene.tenants.grow()
    wait_for(lambda: running.lines("recycle_finished"))
    (finished,) = running.lines("recycle_finished")
    assert finished["decision"] == "blocked"
    assert "needs 1 healthy pods" in finished["reason"]
    scene.quiet(3)
    wait_for(lambda: [e for e in scene.tenants.events() if e["reason"] == "GpumemRecycleFailed"])


def test_a_disruption_budget_that_never_yields_is_overruled_where_the_estate_says_so(scene: Scene) -> None:
    scene.begin()
    scene.tenants.disruption_budget("immich-ml")
    running = scene.watch(
        allow_delete=True, on_blocked="delete", eviction_timeout_seconds=2, eviction_retry_seconds=0.5
    )
    scene.tenants.grow()
    scene.recycled()
    wait_for(lambda: running.lines("recycle_finished"))
    assert running.lines("recycle_finished")[0]["decision"] == "deleted"


def test_a_release_hook_spares_the_pod(scene: Scene) -> None:
    scene.begin()
    hooked = {"immich-ml": {"release_hook": {"port": 8080, "path": "/release"}}}
    running = scene.watch(rules=hooked)
    scene.tenants.grow()
    wait_free(scene.tenants)
    wait_for(lambda: running.lines("recycle_finished"))
    assert running.lines("recycle_finished")[0]["decision"] == "released"
    assert scene.untouched("immich-ml", "frigate", "ollama")


def test_a_watchdog_that_is_told_to_stop_ends_by_itself_and_gives_its_lease_up(scene: Scene) -> None:
    scene.begin()
    running = scene.watch()
    running.process.terminate()
    assert running.process.wait(30) == 0
    assert running.lines("leadership_given_up")


def test_the_clock_of_the_api_does_not_matter(scene: Scene) -> None:
    """Lease times are never compared with one's own clock; what is left is the sample's age."""
    scene.begin()
    scene.exporter.skew_seconds = -timedelta(seconds=1).total_seconds()
    scene.watch()
    scene.tenants.grow()
    scene.recycled()
