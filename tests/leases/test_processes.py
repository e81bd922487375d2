"""Holders and coordinators as processes on a real Redis: each of them is killed, and each ends in the right state."""

from __future__ import annotations

import time
from typing import Any

import httpx
import redis
from prometheus_client.parser import text_string_to_metric_families

from lab.queues.apps import wait_until
from lab.queues.stall import proxy
from tests.leases.conftest import LeaseScene
from tests.leases.scene import TTL_SECONDS

BIG = 8000
"""Two of them do not fit on the card."""


def leases(client: httpx.Client) -> dict[str, str]:
    """`{id: state}`; for one that is over, how."""
    found = client.get("/v1/leases").raise_for_status().json()["leases"]
    return {one["id"]: one["end"] or one["state"] for one in found}


def held(client: httpx.Client) -> dict[str, Any]:
    """A lease on most of the card; what was asked. At the coordinator's first look the card is known."""
    ask = {"tenant": "trainer", "mib": BIG, "lane": "day", "max_wait_seconds": 60, "request_id": "run-0001"}
    assert client.post("/v1/leases", json=ask).status_code in (201, 202)
    wait_until(lambda: client.put(f"/v1/leases/{ask['request_id']}").status_code == 200, "granted")
    return ask


def test_a_holder_that_is_killed_loses_its_lease_and_the_next_one_gets_it(scene: LeaseScene) -> None:
    running = scene.coordinator()
    first = scene.holder(running, BIG).holds()
    second = scene.holder(running, BIG)
    client = scene.client(running)
    wait_until(lambda: "waiting" in leases(client).values(), "the second one waits")
    # Longer than a life: it is the heartbeat that keeps the first one's lease.
    time.sleep(1.2 * TTL_SECONDS)
    assert not second.said
    first.kill()
    second.holds()
    wait_until(lambda: sorted(leases(client).values()) == ["expired", "granted"], "the first one's lease has expired")


def test_a_holder_that_ends_gives_its_lease_back_at_once(scene: LeaseScene) -> None:
    running = scene.coordinator(ttl_seconds=60.0)
    client = scene.client(running)
    held(client)
    second = scene.holder(running, BIG)
    wait_until(lambda: "waiting" in leases(client).values(), "the second one waits")
    client.delete("/v1/leases/run-0001").raise_for_status()
    second.holds()


def test_leases_survive_the_coordinator_and_the_next_one_goes_on(scene: LeaseScene) -> None:
    """Both replicas take renewals, so a holder that knows both never loses its lease."""
    leader = scene.coordinator(ttl_seconds=30.0)
    client = scene.client(leader)
    ask = held(client)
    standby = scene.coordinator(lead=False, ttl_seconds=30.0)
    other = scene.client(standby)
    assert other.put("/v1/leases/run-0001").status_code == 200
    late = other.post("/v1/leases", json={**ask, "request_id": "run-0002"})
    assert late.status_code == 202
    wait_until(lambda: other.get("/v1/leases/run-0002").json()["place"] == 1, "the leader has looked at it")
    leader.kill()
    wait_until(lambda: bool(standby.of("leases_taken_over")), "the standby leads")
    assert leases(other) == {"run-0001": "granted", "run-0002": "waiting"}
    other.delete("/v1/leases/run-0001").raise_for_status()
    wait_until(lambda: leases(other)["run-0002"] == "granted", "it grants")


def test_after_a_long_time_without_any_coordinator_nobody_lost_a_lease_by_that(scene: LeaseScene) -> None:
    first = scene.coordinator()
    held(scene.client(first))
    first.kill()
    time.sleep(1.2 * TTL_SECONDS)
    second = scene.coordinator()
    client = scene.client(second)
    assert client.put("/v1/leases/run-0001").status_code == 200
    # And who does not renew then, either, loses it.
    wait_until(lambda: leases(client)["run-0001"] == "expired", "expired")


def test_a_flush_ends_all_leases_holders_are_told_and_it_goes_on(scene: LeaseScene) -> None:
    running = scene.coordinator()
    holder = scene.holder(running, BIG).holds()
    connection: redis.Redis = redis.Redis.from_url(scene.redis.url)
    connection.flushall()
    connection.close()
    wait_until(lambda: bool(holder.of("LeaseLost")), "the holder was told")
    assert "there is no lease" in holder.of("LeaseLost")[0]["text"]
    assert running.of("leases_lost")
    scene.holder(running, BIG).holds()


def test_a_redis_that_restarts_keeps_the_leases(scene: LeaseScene) -> None:
    running = scene.coordinator()
    holder = scene.holder(running, BIG).holds()
    scene.redis.kill()
    wait_until(lambda: bool(running.of("leases_not_reachable")), "it is noticed")
    scene.redis.start()
    wait_until(lambda: bool(running.of("leases_are_back")), "it is back")
    wait_until(lambda: leases(scene.client(running)) == {holder.of("held")[0]["id"]: "granted"}, "still held")
    time.sleep(1.2 * TTL_SECONDS)
    assert not holder.of("LeaseLost")


def test_a_leader_that_stalls_grants_nothing_twice(scene: LeaseScene) -> None:
    """It comes back believing that it leads; what it decides is written over a book that has changed: not at all."""
    with proxy(scene.redis.port) as between:
        stalled = scene.coordinator(url=f"redis://127.0.0.1:{between.port}/0")
        between.stall()
        second = scene.coordinator()
        client = scene.client(second)
        asked = held(client)
        between.flow()
        late = scene.client(stalled).post("/v1/leases", json={**asked, "request_id": "run-0002"})
        assert late.status_code in (202, 503)
        time.sleep(2)
        assert list(leases(client).values()).count("granted") == 1


def test_unknown_free_memory_grants_nothing_until_it_is_measured_again(scene: LeaseScene) -> None:
    running = scene.coordinator()
    client = scene.client(running)
    scene.exporter.fault = lambda text: text.replace("gpu_sample_up", "gpu_sample_lost")
    wait_until(lambda: bool(running.of("lease_cards_unknown")), "the exporter's silence is noticed")
    ask = {"tenant": "trainer", "mib": 1000, "lane": "day", "max_wait_seconds": 60, "request_id": "run-0001"}
    answer = client.post("/v1/leases", json=ask)
    assert answer.status_code == 202
    assert "unknown is not free" in answer.json()["reason"]
    scene.exporter.fault = lambda text: text
    wait_until(lambda: client.put("/v1/leases/run-0001").status_code == 200, "granted")


def test_the_loop_of_the_leases_is_part_of_the_health_and_the_metrics(scene: LeaseScene) -> None:
    running = scene.coordinator()
    scene.holder(running, BIG).holds()
    assert httpx.get(f"{running.url}/healthz").status_code == 200

    def granted_bytes() -> float | None:
        families = text_string_to_metric_families(httpx.get(f"{running.url}/metrics").text)
        samples = [one for family in families for one in family.samples if one.name == "gpumem_lease_granted_bytes"]
        return next((one.value for one in samples if one.labels == {"tenant": "trainer", "lane": "day"}), None)

    wait_until(lambda: granted_bytes() == BIG * 2**20, "the lease is shown")
