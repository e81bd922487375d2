"""A card that is away, jobs that yield, and one model at a time, with a stand-in Ollama and real BullMQ workers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import redis

from helpers.domain.estate.coordinator import Engine, Redis
from helpers.domain.estate.watchdog import ReleaseHook
from helpers.domain.lanes.settings import CoordinatorSettings, EngineRule, HookRule
from lab.ollama import StandInOllama, stand_in_ollama
from lab.queues.apps import HELPER, App, app, wait_until
from lab.queues.coordinators import CoordinatorProcess, coordinator
from lab.redis_server import RedisServer
from lab.small_exporter import lab_exporter
from tests.fakes.lanes import rule, settings
from tests.queues.scene import is_paused, lanes, warm_scene
from tests.unit.test_release_hooks import tenant

BIG, SMALL = "gemma4:e4b-q8_0", "nomic-embed-text"


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
    with stand_in_ollama(StandInOllama({BIG: 4608})) as ollama:
        declared = lanes(redis_box.url).model_copy(update={"engines": (engines(ollama.url),)})
        with warm_scene(redis_box, tmp_path, declared) as scene:
            application, running = scene.application, scene.running
            assert get(f"{running.url}/v1/status")[0] == 200
            ollama.down = True
            wait_until(lambda: bool(running.of("fallback_began")), "away")
            status, document, headers = get(f"{running.url}/v1/status/ollama")
            assert (status, headers["Retry-After"]) == (503, "30")
            assert document["message"] == "AI service temporarily unavailable"
            wait_until(lambda: is_paused(client), "batch is paused")
            shown = json.loads(str(client.get("gpumem:status")))
            assert (shown["available"], shown["retry_after_seconds"]) == (False, 30)
            application.add("ai-batch", *range(1, 6))
            ollama.down = False
            wait_until(lambda: application.ended("ai-batch") == list(range(6)), "drained, in order")
            assert get(f"{running.url}/v1/status")[0] == 200


def test_jobs_that_meet_a_dead_server_come_back_with_all_their_attempts_and_are_drained_in_order(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """The estate's five minutes are one second here. One attempt each: a failed one would be lost."""
    with stand_in_ollama(StandInOllama({BIG: 4608})) as ollama:
        update = {"engines": (engines(ollama.url),), "batch_retry_seconds": 1}
        declared = lanes(redis_box.url).model_copy(update=update)
        with warm_scene(redis_box, tmp_path, declared, helper=HELPER, lane="batch") as scene:
            application, running = scene.application, scene.running
            ollama.down = True
            jobs = [
                {"data": {"n": n, "url": f"{ollama.url}/api/version"}, "opts": {"attempts": 1}} for n in range(1, 6)
            ]
            application.ask("add", queue="ai-batch", jobs=jobs)
            wait_until(lambda: bool(client.zcard("bull:ai-batch:delayed")), "put back before anybody had noticed")
            wait_until(lambda: bool(running.of("fallback_began")), "away")
            wait_until(lambda: is_paused(client), "batch is paused")
            wait_until(lambda: client.llen("bull:ai-batch:paused") == 5, "their second is over, and they wait")
            assert application.ended("ai-batch") == [0]
            in_order = [job(client, number) for number in reversed(list_of(client, "bull:ai-batch:paused"))]
            assert sorted(in_order) == [1, 2, 3, 4, 5]
            ollama.down = False
            wait_until(lambda: len(application.ended("ai-batch")) == 6, "drained")
            assert application.ended("ai-batch")[1:] == in_order
            assert client.zcard("bull:ai-batch:failed") == 0


def list_of(client: redis.Redis, key: str) -> list[str]:
    found: Any = client.lrange(key, 0, -1)
    return list(found)


def job(client: redis.Redis, number: str) -> int:
    """Its `n`."""
    return int(json.loads(str(client.hget(f"bull:ai-batch:{number}", "data")))["n"])


def test_an_exporter_that_says_nothing_is_a_card_that_is_away(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """Unknown is not free: Ollama answers, and still nobody knows what the card holds."""
    ollama = StandInOllama({BIG: 4608})
    with stand_in_ollama(ollama), lab_exporter("desk", lambda: ollama.usage("desk")) as exporter:
        exporter.interval_seconds = 0.2
        url = f"http://127.0.0.1:{exporter.port}/metrics"
        declared = lanes(redis_box.url).model_copy(update={"engines": (engines(ollama.url, url),)})
        with warm_scene(redis_box, tmp_path, declared) as scene:
            exporter.fault = lambda _: "gpu_sample_up 0"
            wait_until(lambda: bool(scene.running.of("fallback_began")), "away")
            assert "the exporter of desk" in scene.running.of("fallback_began")[0]["reason"]
            wait_until(lambda: is_paused(client), "batch is paused")
            exporter.fault = lambda text: text
            wait_until(lambda: bool(scene.running.of("fallback_ended")), "back")
            wait_until(lambda: not is_paused(client), "resumed")


def test_a_batch_job_that_is_asked_to_yield_goes_back_and_realtime_begins(
    redis_box: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """The application's own hook puts its long job back; outside Kubernetes it is on its engine's machine."""
    told: list[App] = []

    def answer(_: object) -> tuple[int, str]:
        told[0].send("yieldNow", queue="ai-batch")
        return 200, "yields"

    with tenant(answer) as (port, asked), stand_in_ollama(StandInOllama({BIG: 4608})) as ollama:
        hook = ReleaseHook(port=port, path="/yield")
        rule_ = HookRule(
            tenant="ollama", namespace="ai", kind="Deployment", workload="ollama", container="x", hook=hook
        )
        update = {"engines": (engines(ollama.url),), "hooks": (rule_,)}
        declared = lanes(redis_box.url, on_realtime="yield").model_copy(update=update)
        with warm_scene(redis_box, tmp_path, declared) as scene:
            application, running = scene.application, scene.running
            told.append(application)
            application.add("ai-batch", 1, ms=20_000)
            wait_until(lambda: client.llen("bull:ai-batch:active") == 1, "batch is active")
            application.add("ai-realtime", 1, ms=3000)
            wait_until(lambda: bool(running.of("lane_yielded")), "it has yielded")
            assert asked == [("POST", "/yield", "")]
            assert 1 not in application.ended("ai-batch")
            wait_until(lambda: 1 in application.ended("ai-realtime"), "realtime has ended")
            assert len(asked) == 1, "one burst, one question"
            wait_until(lambda: 1 in application.ended("ai-batch"), "and the job ends later, once")
            assert application.ended("ai-batch") == [0, 1]


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
            # No batch job to warm up: it would need the memory already.
            application.ask("work", queue="ai-realtime")
            application.ask("work", queue="ai-batch")
            application.ask("counts", queue="ai-batch")
            application.add("ai-realtime", 0)
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
