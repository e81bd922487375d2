"""What goes wrong between the coordinator, its Redis, its clock and its card; each ends in the right state."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from helpers.adapters.clock import SystemClock
from helpers.apps.coordinator import RunSettings, run_coordinator
from helpers.domain.estate.coordinator import Engine, Redis
from helpers.domain.lanes.settings import CoordinatorSettings, EngineRule
from lab.ollama import StandInOllama, stand_in_ollama
from lab.queues.apps import app, wait_until
from lab.queues.coordinators import CoordinatorProcess, coordinator
from lab.queues.stall import proxy
from lab.redis_server import RedisServer
from lab.small_exporter import lab_exporter
from tests.fakes.lanes import NIGHT, rule, settings
from tests.queues.test_coordinator import is_paused, lanes, started

BIG, SMALL = "gemma4:e4b-q8_0", "nomic-embed-text"


@pytest.fixture
def client(redis_box: RedisServer) -> Iterator[redis.Redis]:
    connection: redis.Redis = redis.Redis.from_url(redis_box.url, decode_responses=True)
    yield connection
    connection.close()


def test_a_network_that_stalls_and_delivers_late_leaves_nothing_paused(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """The pause that was sent into the stall arrives when nobody waits for it any more."""
    with (
        app(redis_box.url, 5) as application,
        proxy(redis_box.port) as between,
        coordinator(lanes(f"redis://127.0.0.1:{between.port}/0"), tmp_path) as running,
    ):
        started(application)
        wait_until(lambda: bool(running.of("queue_resumed")), "settled after the warm-up")
        # The realtime job is over before the network comes back.
        application.add("ai-realtime", 1, ms=2500)
        wait_until(lambda: is_paused(client), "paused")
        between.stall()
        wait_until(lambda: 1 in application.ended("ai-realtime"), "realtime has ended")
        application.add("ai-batch", 1, 2, 3)
        time.sleep(4)
        assert is_paused(client)
        between.flow()
        wait_until(lambda: {1, 2, 3} <= set(application.ended("ai-batch")), "batch has ended")
        wait_until(lambda: not is_paused(client), "resumed")
        assert len(application.ended("ai-batch")) == 4


def test_a_stall_just_before_the_pause_ends_with_batch_running(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    with (
        app(redis_box.url, 5) as application,
        proxy(redis_box.port) as between,
        coordinator(lanes(f"redis://127.0.0.1:{between.port}/0"), tmp_path) as running,
    ):
        started(application)
        wait_until(lambda: bool(running.of("queue_resumed")), "settled after the warm-up")
        between.stall()
        application.add("ai-realtime", 1, ms=500)
        time.sleep(5)
        between.flow()
        application.add("ai-batch", 1, 2)
        wait_until(lambda: {1, 2} <= set(application.ended("ai-batch")), "batch has ended")
        time.sleep(2)
        wait_until(lambda: not is_paused(client), "nothing stays paused")


class JumpingClock(SystemClock):
    """The machine's clock, whose wall time the test sets."""

    def __init__(self, at: datetime) -> None:
        self._offset = at - datetime.now(UTC)

    def now_at(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def jump_to(self, at: datetime) -> None:
        self._offset = at - datetime.now(UTC)


def test_a_clock_that_jumps_over_summer_time_ends_where_the_wall_clock_says(
    redis_box: RedisServer, client: redis.Redis
) -> None:
    """Berlin: 18:00-09:00. On 2026-03-29 the clock goes from 02:00 to 03:00, on 2026-10-25 from 03:00 to 02:00."""
    clock = JumpingClock(datetime(2026, 3, 28, 16, 59, 58, tzinfo=UTC))  # 17:59:58 in winter time
    stop = threading.Event()
    declared = lanes(redis_box.url, windows=[NIGHT])
    run = RunSettings(identity="test", address="")
    thread = threading.Thread(
        target=run_coordinator, args=(declared, run, None), kwargs={"stop": stop.is_set, "clock": clock}
    )
    with app(redis_box.url, 5) as application:
        started(application)
        thread.start()
        try:
            wait_until(lambda: is_paused(client), "paused before 18:00")
            wait_until(lambda: not is_paused(client), "open at 18:00, without any event", 5)
            for at, paused in (
                (datetime(2026, 3, 29, 6, 59, 50, tzinfo=UTC), False),  # 08:59:50 in summer time
                (datetime(2026, 3, 29, 7, 0, 5, tzinfo=UTC), True),  # 09:00:05; in winter time it were 08:00
                (datetime(2026, 3, 29, 15, 59, 50, tzinfo=UTC), True),
                (datetime(2026, 3, 29, 16, 0, 5, tzinfo=UTC), False),  # 18:00:05
                (datetime(2026, 10, 25, 7, 59, 50, tzinfo=UTC), False),  # 08:59:50, winter again
                (datetime(2026, 10, 25, 8, 0, 5, tzinfo=UTC), True),
                (datetime(2026, 3, 29, 1, 30, tzinfo=UTC), False),  # the clock was set back half a year
            ):
                clock.jump_to(at)
                wait_until(lambda paused=paused: is_paused(client) == paused, f"paused is {paused} at {at}", 5)  # type: ignore[misc]
        finally:
            stop.set()
            thread.join(20)
        assert not thread.is_alive()


def engines(url: str, exporter_url: str | None = None, **fields: Any) -> EngineRule:
    engine = Engine(tenant="ollama", ollama_url=url, exporter_url=exporter_url, away_after_seconds=1.5)
    return EngineRule(engine=engine, node="desk", models_mib={BIG: 4608, SMALL: 512}, **fields)


def get(url: str) -> tuple[int, dict[str, Any], Any]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused), refused.headers


def test_without_the_card_realtime_gets_the_reference_s_answer_and_batch_waits(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    with stand_in_ollama(StandInOllama({BIG: 4608})) as ollama, app(redis_box.url, 5) as application:
        declared = lanes(redis_box.url).model_copy(update={"engines": (engines(ollama.url),)})
        with coordinator(declared, tmp_path) as running:
            started(application)
            wait_until(lambda: bool(running.of("queue_resumed")), "settled after the warm-up")
            assert get(f"{running.url}/v1/status")[0] == 200
            ollama.down = True
            wait_until(lambda: bool(running.of("fallback_began")), "away", 10)
            status, document, headers = get(f"{running.url}/v1/status/ollama")
            assert (status, headers["Retry-After"]) == (503, "30")
            assert document["message"] == "AI service temporarily unavailable"
            wait_until(lambda: is_paused(client), "batch is paused")
            shown = json.loads(str(client.get("gpumem:status")))
            assert (shown["available"], shown["retry_after_seconds"]) == (False, 30)
            application.add("ai-batch", *range(1, 6))
            ollama.down = False
            wait_until(lambda: application.ended("ai-batch") == list(range(6)), "drained, in order", 10)
            assert get(f"{running.url}/v1/status")[0] == 200


def test_one_model_leaves_the_memory_before_another_lane_begins(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """Ollama answers an unload before the memory is free: the lane begins when the exporter shows it free."""
    ollama = StandInOllama({BIG: 4608, SMALL: 512}, free_seconds=1.5)
    with stand_in_ollama(ollama), lab_exporter("desk", lambda: ollama.usage("desk")) as exporter:
        url = f"http://127.0.0.1:{exporter.port}/metrics"
        # The lab's exporter shows 14910 MiB free at most: with 14500 needed, a loaded model is in the way.
        chosen = (
            rule("realtime", "realtime", vram_mib=14_500, room_mib=14_910, model=BIG),
            rule("batch", vram_mib=14_500, room_mib=14_910, model=SMALL, settle_seconds=0.3),
        )
        ones = tuple(one.model_copy(update={"one_model": True}) for one in chosen)
        declared: CoordinatorSettings = settings(
            *ones,
            redis=Redis(url=redis_box.url),
            ttl_seconds=2.0,
            poll_seconds=0.5,
            engines=(engines(ollama.url, url, one_model=True),),
        )
        ollama.post("/api/generate", {"model": BIG, "prompt": "hello"})
        assert ollama.loaded() == [BIG]
        with app(redis_box.url, 5) as application, coordinator(declared, tmp_path) as running:
            started(application)
            wait_until(lambda: is_paused(client), "batch is paused")
            wait_until(lambda: last_reason(running) == "memory", "because the other model is in memory")
            assert "unload_asked" not in [line["event"] for line in running.log]  # nobody needs the memory yet
            application.add("ai-batch", 1, ms=5)
            wait_until(lambda: 1 in application.ended("ai-batch"), "batch has ended")
            (asked,), (unloaded,) = running.of("unload_asked"), running.of("model_unloaded")
            assert asked["reason"] == f"batch needs {SMALL}"
            assert unloaded["freed_mib"] == 4608 + ollama.context_mib
            assert unloaded["seconds"] >= ollama.free_seconds
            assert running.of("queue_resumed")[-1]["ts"] >= unloaded["ts"]


def last_reason(running: CoordinatorProcess) -> str:
    return [str(line["decision"]) for line in running.of("lane_changed") if line["lane"] == "batch"][-1]
