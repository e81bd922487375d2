"""From asking for a lease to having it, with none and with many others held.

A real Redis, a real exporter's text, and the coordinator as a process of its own with a file of tokens. Each
lease is granted at once: what is timed is the whole request, with authentication, decision and the write to
Redis. The others are renewed at their rate meanwhile. Prints one JSON line. Compared with: the same request
with a token that is nobody's, which ends before anything is read, decided or written.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from helpers.domain.estate.coordinator import Lane, Redis
from helpers.domain.lanes.settings import CoordinatorSettings, LaneRule
from helpers.domain.leases.settings import CardRule, HolderRule, LeaseSettings, NodeRule
from lab.queues.apps import wait_until
from lab.queues.coordinators import CoordinatorProcess
from lab.redis_server import redis_server
from lab.small_exporter import lab_exporter

TOKEN = "a-token-for-the-benchmark"  # noqa: S105 - of a coordinator that lives as long as this program
TTL_SECONDS = 30.0
ROOM_MIB = 14_000


def declared(url: str, exporter_port: int) -> CoordinatorSettings:
    """One card, one tenant, one lane."""
    lane = Lane.model_validate({"name": "day", "class": "batch", "tenant": "trainer"})
    exporter_url = f"http://127.0.0.1:{exporter_port}/metrics"
    card = CardRule(gpu_index=0, advertised_mib=ROOM_MIB)
    leases = LeaseSettings(
        holders=(
            HolderRule(
                tenant="trainer",
                namespace="train",
                kind="Deployment",
                name="trainer",
                node="desk",
                room_mib=ROOM_MIB,
                service_accounts=("default",),
            ),
        ),
        nodes=(NodeRule(node="desk", exporter_url=exporter_url, floor_mib=500, cards=(card,)),),
        ttl_seconds=TTL_SECONDS,
        longest_wait_seconds=60,
    )
    return CoordinatorSettings(
        redis=Redis(url=url),
        prefix="bull",
        lanes=(LaneRule(lane=lane, need_mib=0, room_mib=ROOM_MIB),),
        leases=leases,
        ttl_seconds=15.0,
        poll_seconds=1.0,
        retry_after_seconds=30,
        batch_retry_seconds=300,
    )


def timed_ms(client: httpx.Client, times_count: int) -> list[float]:
    """One figure a lease; each is given back at once, untimed."""
    found: list[float] = []
    for _ in range(times_count):
        began = time.perf_counter()
        answer = client.post("/v1/leases", json={"tenant": "trainer", "mib": 1, "lane": "day"})
        found.append((time.perf_counter() - began) * 1000)
        if answer.status_code != httpx.codes.CREATED:
            raise SystemExit(f"not granted: {answer.status_code} {answer.text}")
        client.delete(f"/v1/leases/{answer.json()['id']}").raise_for_status()
    return found


@contextmanager
def renewed(client: httpx.Client, ids: list[str]) -> Iterator[None]:
    """Renews each of `ids`, which may grow, three times a life, as the SDK does."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.01):
            for one in list(ids):
                client.put(f"/v1/leases/{one}").raise_for_status()
                if stop.wait(TTL_SECONDS / 3 / len(ids)):
                    return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join()


def spread(found_ms: list[float]) -> dict[str, float]:
    """p50 and p99."""
    cuts = statistics.quantiles(found_ms, n=100)
    return {"p50_ms": round(cuts[49], 2), "p99_ms": round(cuts[98], 2)}


def measured(running: CoordinatorProcess, held_count: int, times_count: int) -> dict[str, Any]:
    """With none and with `held_count` others held."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    asked = {"tenant": "trainer", "mib": 1, "lane": "day"}
    with (
        httpx.Client(base_url=running.lease_url, headers=headers, timeout=30) as client,
        httpx.Client(base_url=running.lease_url, headers=headers, timeout=30) as renewing,
    ):
        wait_until(
            lambda: bool(client.post("/v1/leases", json=asked).status_code == httpx.codes.CREATED), "measured", 30
        )
        timed_ms(client, 20)  # warm
        alone = timed_ms(client, times_count)
        ids: list[str] = []
        with renewed(renewing, ids):
            for _ in range(held_count):
                ids.append(client.post("/v1/leases", json=asked).json()["id"])  # noqa: PERF401 - renewed meanwhile
            among = timed_ms(client, times_count)
        nothing: list[float] = []
        for _ in range(times_count):
            began = time.perf_counter()
            client.post("/v1/leases", json=asked, headers={"Authorization": "Bearer nobodys"})
            nothing.append((time.perf_counter() - began) * 1000)
    return {
        "held_count": held_count,
        "alone": spread(alone),
        "among_others": spread(among),
        "compared_with": {"refused_at_the_door": spread(nothing)},
    }


def main() -> int:
    """Measures and prints; exit 1 where the p99 is not under the bound."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--held", type=int, default=1000, help="other leases that are held")
    parser.add_argument("--times", type=int, default=300, help="leases that are timed")
    parser.add_argument("--bound-ms", type=float, default=200.0, help="what the p99 among others must be under")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="gpumem-bench-") as name,
        redis_server(Path(name) / "redis") as redis,
        lab_exporter("desk", dict) as exporter,
    ):
        tokens = Path(name) / "tokens"
        tokens.touch(0o600)
        tokens.write_text(f"{TOKEN} bench trainer\n")
        arguments = ["--lease-address", "127.0.0.1:0", "--lease-tokens", str(tokens)]
        settings = declared(redis.url, exporter.port)
        running = CoordinatorProcess(settings, Path(name) / "coordinator", arguments=arguments)
        try:
            wait_until(lambda: bool(running.of("leases_taken_over") and running.of("leases_served")), "it leads", 60)
            figures = measured(running, options.held, options.times)
        finally:
            running.kill()
    among = figures["among_others"]
    # Other work on the machine shows in the tail: a figure without its load says little.
    settings_of_run = {"cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 2)}
    print(json.dumps({"benchmark": "leases", **settings_of_run, **figures, "bound_ms": options.bound_ms}))
    return 0 if among["p99_ms"] < options.bound_ms else 1


if __name__ == "__main__":
    sys.exit(main())
