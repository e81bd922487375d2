"""The watchdog as a process with its own rights on a real API server, while everything around it fails.

Over all of it: nothing in budget is ever recycled, nothing acts on unknown, and it recovers by itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from lab.incident import FLOOR_MIB, wait_free
from lab.waiting import wait_for
from tests.fakes.api_proxy import Fault
from tests.fakes.wall_clock import WallClock, wall_clock
from tests.fixtures.watchdog_scene import QUIET_SECONDS, Scene

pytestmark = pytest.mark.lab


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


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    found = wall_clock(tmp_path)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.mark.parametrize(
    ("jump_seconds", "seen_as"), [(3600, "sample_stale"), (-3600, "sample_from_the_future")], ids=["ahead", "back"]
)
def test_a_watchdog_whose_own_clock_jumps_touches_nobody_and_keeps_its_lease(
    scene: Scene, clock: WallClock, jump_seconds: int, seen_as: str
) -> None:
    """Every sample is out of time then, of whoever is over the budget as well; leading goes by the other clock."""
    scene.begin()
    running = scene.watch(environment=clock.environment)
    second = scene.watch("second")
    wait_for(lambda: second.lines("started"))
    clock.jump(jump_seconds)
    wait_for(lambda: running.lines("pass_finished")[-1]["decisions"] == {seen_as: 1})
    scene.tenants.grow()
    scene.quiet(20)  # longer than a Lease that nobody renews
    assert not second.lines("leadership_won")
    assert running.lines("pass_finished")[-1]["decisions"] == {seen_as: 1}
    clock.jump(0)
    scene.recycled()
    wait_for(lambda: running.lines("recycle_finished"))
    assert [line["decision"] for line in running.lines("recycle_finished")] == ["evicted"]
    assert not second.lines("recycle_started")


@pytest.mark.parametrize("jump_seconds", [3600, -3600], ids=["ahead", "back"])
def test_a_clock_that_jumps_in_the_middle_of_an_act_deletes_nobody(
    scene: Scene, clock: WallClock, jump_seconds: int
) -> None:
    """A disruption budget is waited out by the clock that does not jump, and each try needs a fresh sample."""
    scene.begin()
    scene.tenants.disruption_budget("immich-ml")
    running = scene.watch(
        environment=clock.environment,
        allow_delete=True,
        on_blocked="delete",
        eviction_timeout_seconds=8,
        eviction_retry_seconds=0.5,
    )
    scene.tenants.grow()
    wait_for(lambda: running.lines("recycle_started"))
    clock.jump(jump_seconds)
    (called_off,) = wait_for(lambda: running.lines("recycle_finished"))
    assert called_off["decision"] == "blocked"
    scene.quiet(9)
    clock.jump(0)
    began = time.monotonic()
    scene.recycled()
    assert time.monotonic() - began > 8, "the whole patience, once more"
    wait_for(lambda: len(running.lines("recycle_finished")) == 2)
    assert running.lines("recycle_finished")[1]["decision"] == "deleted"
