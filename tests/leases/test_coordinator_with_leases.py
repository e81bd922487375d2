"""What the coordinator does about leases beside granting them: its health, and models that leave afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from helpers.apps.coordinator import RunSettings, run_coordinator
from helpers.apps.coordinator import leases as lease_wiring
from helpers.domain.estate.coordinator import Engine
from helpers.domain.lanes.settings import EngineRule
from helpers.services.leases import LeaseKeeper
from lab.ollama import StandInOllama, stand_in_ollama
from lab.ports import free_ports
from lab.queues.apps import wait_until
from lab.queues.coordinators import CoordinatorProcess
from lab.small_exporter import lab_exporter
from tests.fakes.leases import holder_rule, lane_rule
from tests.leases.conftest import TOKEN, LeaseScene
from tests.leases.scene import card_settings

MODEL = "gemma4:e4b-q8_0"


@contextmanager
def in_this_process(scene: LeaseScene) -> Iterator[str]:
    """The URL of a coordinator whose parts a test can reach."""
    port = free_ports(1)[0]
    stop = threading.Event()
    run = RunSettings(
        identity="test", address=f"127.0.0.1:{port}", lease_address="127.0.0.1:0", lease_tokens=scene.tokens
    )
    declared = card_settings(scene.redis.url, scene.exporter)
    thread = threading.Thread(target=run_coordinator, args=(declared, run, None), kwargs={"stop": stop.is_set})
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop.set()
        thread.join()


def answers(url: str) -> int:
    try:
        return httpx.get(url).status_code
    except httpx.HTTPError:
        return 0


def test_a_loop_of_the_leases_that_hangs_is_unhealthy(scene: LeaseScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the loop of the lanes turns on."""
    monkeypatch.setattr(lease_wiring, "STUCK_AFTER_SECONDS", 1.5)
    hangs, ended = threading.Event(), threading.Event()
    turn = LeaseKeeper.turn

    def hanging(keeper: LeaseKeeper) -> None:
        if hangs.is_set():
            ended.wait(60)
        turn(keeper)

    monkeypatch.setattr(LeaseKeeper, "turn", hanging)
    with in_this_process(scene) as url:
        wait_until(lambda: answers(f"{url}/healthz") == 200, "healthy")
        hangs.set()
        wait_until(lambda: answers(f"{url}/healthz") == 503, "unhealthy")
        hangs.clear()
        ended.set()
        wait_until(lambda: answers(f"{url}/healthz") == 200, "healthy again")


def test_a_lanes_model_leaves_the_memory_after_its_last_lease_and_that_is_measured(scene: LeaseScene) -> None:
    ollama = StandInOllama({MODEL: 4608}, free_seconds=0.5)
    with stand_in_ollama(ollama), lab_exporter("desk", lambda: ollama.usage("desk")) as exporter:
        exporter.interval_seconds = 0.2
        lane = lane_rule("own", "ollama", model=MODEL, cleanup="unload", settle_seconds=0.5)
        url = f"http://127.0.0.1:{exporter.port}/metrics"
        engine = Engine(tenant="ollama", ollama_url=ollama.url, exporter_url=url)
        holders: dict[str, Any] = {"holders": (holder_rule("ollama", room_mib=6000),), "ttl_seconds": 60.0}
        declared = card_settings(scene.redis.url, exporter, **holders)
        declared = declared.model_copy(update={"lanes": (lane,), "engines": (EngineRule(engine=engine, node="desk"),)})
        running = process(scene, declared)
        client = scene.client(running)
        ask = {"tenant": "ollama", "mib": 5000, "lane": "own", "max_wait_seconds": 60, "request_id": "run-0001"}
        client.post("/v1/leases", json=ask)
        wait_until(lambda: client.put("/v1/leases/run-0001").status_code == 200, "granted")
        ollama.post("/api/generate", {"model": MODEL, "prompt": "hello"})
        wait_until(lambda: ollama.loaded() == [MODEL], "loaded")
        assert not running.of("unload_asked")
        client.delete("/v1/leases/run-0001").raise_for_status()
        wait_until(lambda: bool(running.of("model_unloaded")), "unloaded, and measured free", 30)
        assert running.of("unload_asked")[0]["reason"] == "own has come to rest"
        assert running.of("model_unloaded")[0]["freed_mib"] == 4608 + ollama.context_mib


def process(scene: LeaseScene, declared: Any) -> CoordinatorProcess:
    """One with the file of tokens made before it starts."""
    scene.tokens.write_text(f"{TOKEN} somebody ollama\n")
    arguments = ("--lease-address", "127.0.0.1:0", "--lease-tokens", str(scene.tokens))
    running = CoordinatorProcess(declared, scene.folder / "own", arguments=arguments)
    scene.stack.callback(running.kill)
    wait_until(lambda: bool(running.of("leases_served") and running.of("leases_taken_over")), "it serves", 60)
    return running


def test_in_a_dry_run_no_leases_are_served(scene: LeaseScene) -> None:
    declared = card_settings(scene.redis.url, scene.exporter).model_copy(update={"dry_run": True})
    running = CoordinatorProcess(declared, scene.folder / "dry", arguments=("--lease-address", "127.0.0.1:0"))
    scene.stack.callback(running.kill)
    wait_until(lambda: bool(running.of("leases_not_served")), "it says so", 30)
    wait_until(lambda: bool(running.of("queues_followed")), "the rest goes on", 30)
    assert not running.of("leases_served")
