"""A day in a minute: realtime and batch jobs on real queues, a coordinator on a scaled clock, and what came of it.

From 09:00 to 18:00 batch must not run, nor while realtime is active. Everything is judged by Redis's own
event streams. The oracle runs the same batch jobs behind the same realtime jobs with perfect knowledge:
no reaction time, no settling, no job ever begun at a wrong moment.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis

from helpers.adapters.redis_.board import ROOT
from helpers.domain.estate.coordinator import Lane, Redis
from helpers.domain.estate.windows import LaneWindow
from helpers.domain.lanes.board import lane_key
from helpers.domain.lanes.settings import CoordinatorSettings, LaneRule
from lab.queues.apps import HELPER, App, app, wait_until
from lab.queues.observer import Observer, Seen, observer
from lab.queues.scaled_coordinator import ScaledClock

REALTIME, BATCH = "ai-realtime", "ai-batch"
MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)
DAY = timedelta(days=1)
SETTLE_SECONDS = 0.1
# The coordinator's start belongs to the night before: a program, an interpreter and a client on loaded cores.
START_SECONDS = 12.0
NIGHT = LaneWindow.model_validate({"from": "18:00", "to": "09:00"})


@dataclass(frozen=True)
class Day:
    """What is sent: jobs of each kind, and how long the whole day takes."""

    realtime_count: int = 6500
    batch_count: int = 3500
    bursts_count: int = 60
    real_seconds: float = 60.0
    longest_realtime_ms: int = 2
    longest_batch_ms: int = 4
    seed: int = 7
    # On the scaled clock: 100 ms of real time, as the reference's two minutes are to a job of its own.
    lead_seconds: float = 144.0

    @property
    def speed(self) -> float:
        """Scaled seconds in a real one."""
        return DAY.total_seconds() / self.real_seconds

    def jobs(self) -> list[dict[str, Any]]:
        """Realtime in bursts all day, batch evenly over it; `at` in real milliseconds."""
        dice = random.Random(self.seed)  # noqa: S311 - reproducible, not secret
        real_ms = 1000 * self.real_seconds
        starts = [real_ms * (burst + dice.random() * 0.5) / self.bursts_count for burst in range(self.bursts_count)]
        found = []
        for number in range(self.realtime_count):
            at = starts[number % self.bursts_count] + 3 * (number // self.bursts_count)
            found.append(_job(REALTIME, at, number, dice.randint(0, self.longest_realtime_ms)))
        for number in range(self.batch_count):
            at = dice.random() * real_ms * 0.97
            found.append(_job(BATCH, at, number, dice.randint(0, self.longest_batch_ms)))
        return sorted(found, key=lambda job: float(job["at"]))


@dataclass(frozen=True)
class Outcome:
    """What came of it. Delays are seconds over all batch jobs, from added to begun for good."""

    jobs_count: int
    lost_count: int
    run_twice_count: int
    begun_beside_realtime_count: int
    begun_after_the_pause_count: int
    latest_beside_realtime_ms: int
    over_100_ms_count: int
    in_working_hours_count: int
    pauses_count: int
    delay_seconds: float
    oracle_delay_seconds: float
    took_seconds: float

    @property
    def delay_ratio(self) -> float:
        """How much longer batch waited than it had to."""
        return self.delay_seconds / self.oracle_delay_seconds if self.oracle_delay_seconds else float("inf")


def live_through(url: str, folder: Path, day: Day, *, major: int = 5, helper: bool = False) -> Outcome:
    """Runs the day on the Redis at `url`; `helper`: batch workers have the worker-side helper."""
    began = time.monotonic()
    jobs = day.jobs()
    with app(url, major, helper=HELPER) as workers, app(url, major) as producer:
        workers.ask("work", queue=REALTIME)
        workers.ask("work", queue=BATCH, lane="batch" if helper else None)
        for queue in (REALTIME, BATCH):
            producer.add(queue, -1)  # the coordinator meets the queues before the day begins
            wait_until(lambda queue=queue: workers.ended(queue) == [-1], "warm")  # type: ignore[misc]
        at_seconds = time.time() + START_SECONDS
        clock = ScaledClock(MIDNIGHT, at_seconds, day.speed)
        with (
            _coordinator(url, folder, at_seconds, day),
            observer(url, (REALTIME, BATCH)) as eyes,
            redis.Redis.from_url(url) as client,
        ):
            # Without its document the worker-side helper has nothing to go by, as where nobody coordinates.
            wait_until(lambda: bool(client.exists(ROOT + lane_key("batch"))), "the coordinator is there", START_SECONDS)
            time.sleep(max(0.0, at_seconds - time.time()))
            producer.ask("play", jobs=jobs, timeout_seconds=day.real_seconds * 4)
            wanted = day.realtime_count + day.batch_count
            done = lambda: len(workers.ended(REALTIME)) + len(workers.ended(BATCH)) - 2 >= wanted  # noqa: E731
            wait_until(done, "every job has ended", day.real_seconds * 2)
            time.sleep(0.5)  # one that is run twice shows itself
        return _judge(eyes, workers, clock, day, jobs, time.monotonic() - began, helper=helper)


def settings(url: str, day: Day) -> CoordinatorSettings:
    """The reference's two lanes, with the day's hours in UTC."""

    def rule(lane_class: str, **fields: Any) -> LaneRule:
        block = {"name": lane_class, "queues": [f"ai-{lane_class}"], "class": lane_class, "tenant": "ollama"}
        lane = Lane.model_validate({**block, "vram_mib": 4608, "settle_seconds": SETTLE_SECONDS, **fields})
        return LaneRule(lane=lane, need_mib=4608, room_mib=5120)

    return CoordinatorSettings(
        redis=Redis(url=url),
        prefix="bull",
        lanes=(rule("realtime"), rule("batch", windows=[NIGHT], lead_seconds=day.lead_seconds)),
        ttl_seconds=15.0,
        poll_seconds=1.0,
        retry_after_seconds=30,
        batch_retry_seconds=1,
    )


class _coordinator:  # noqa: N801 - used as a function
    """The scaled coordinator as a process."""

    def __init__(self, url: str, folder: Path, at_seconds: float, day: Day) -> None:
        document = folder / "coordinator.json"
        document.write_text(settings(url, day).to_json())
        start = MIDNIGHT.isoformat()
        module = "lab.queues.scaled_coordinator"
        command = [sys.executable, "-m", module, str(document), start, str(at_seconds), str(day.speed)]
        self._log = (folder / "coordinator.log").open("w")
        self._process = subprocess.Popen(command, stderr=self._log)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


def _job(queue: str, at: float, number: int, ms: int) -> dict[str, Any]:
    return {"queue": queue, "at": at, "data": {"n": number, "ms": ms}, "opts": {"jobId": f"n{number}"}}


def _judge(
    eyes: Observer, workers: App, clock: ScaledClock, day: Day, jobs: list[dict[str, Any]], took: float, *, helper: bool
) -> Outcome:
    ended = {queue: Counter(job for job in workers.ended(queue) if job >= 0) for queue in (REALTIME, BATCH)}
    expected = {REALTIME: day.realtime_count, BATCH: day.batch_count}
    realtime = _spans(eyes.seen(REALTIME))
    # With the helper a job's work begins where its script says so, not where BullMQ makes it active.
    begun = _began(workers) if helper else _last_starts(eyes.seen(BATCH, "active"))
    pauses = [one.at_ms for one in eyes.seen(BATCH) if one.event in ("paused", "resumed")]
    kinds = [one.event for one in eyes.seen(BATCH) if one.event in ("paused", "resumed")]
    beside = [(at, begin) for at in begun.values() if (begin := _busy_since(at, realtime)) is not None]
    late_ms = [at - begin for at, begin in beside]
    added = {one.job: one.at_ms for one in eyes.seen(BATCH, "added")}
    length_ms = _usual_length(begun, eyes.seen(BATCH, "completed"))
    oracle = oracle_delay_ms(sorted(added.values()), length_ms, realtime, _closed(clock))
    return Outcome(
        jobs_count=len(jobs),
        lost_count=sum(expected[queue] - len(ended[queue]) for queue in expected),
        run_twice_count=sum(1 for queue in ended for times in ended[queue].values() if times > 1),
        begun_beside_realtime_count=len(beside),
        begun_after_the_pause_count=sum(_is_paused(at, pauses, kinds) for at, _ in beside) if not helper else 0,
        latest_beside_realtime_ms=max(late_ms, default=0),
        over_100_ms_count=sum(late > 100 for late in late_ms),
        in_working_hours_count=sum(_in_working_hours(at, clock) for at in begun.values()),
        pauses_count=kinds.count("paused"),
        delay_seconds=sum(at - added[job] for job, at in begun.items() if job in added) / 1000,
        oracle_delay_seconds=oracle / 1000,
        took_seconds=took,
    )


def oracle_delay_ms(
    added_ms: Sequence[float],
    length_ms: float,
    realtime: Sequence[tuple[int, int]],
    closed: Sequence[tuple[float, float]],
) -> float:
    """Sum of what batch jobs wait at least: one at a time, in order, begun only where neither keeps them."""
    blocked = sorted([*realtime, *closed])
    total, free_at, index = 0.0, 0.0, 0
    for added in added_ms:
        at = max(added, free_at)
        while index < len(blocked) and blocked[index][1] <= at:
            index += 1
        look = index
        while look < len(blocked) and blocked[look][0] <= at:
            at = max(at, blocked[look][1])
            look += 1
        total += at - added
        free_at = at + length_ms
    return total


def _spans(events: Sequence[Seen]) -> list[tuple[int, int]]:
    """When realtime jobs were active: one span a job, in order of their begin."""
    began: dict[str, int] = {}
    spans = []
    for one in events:
        if one.event == "active":
            began[one.job] = one.at_ms
        elif one.event in ("completed", "failed") and one.job in began:
            spans.append((began.pop(one.job), one.at_ms))
    return sorted(spans)


def _busy_since(at_ms: int, spans: Sequence[tuple[int, int]]) -> int | None:
    """Since when realtime had been busy without a gap of the settling time, where `at_ms` is within a job of it."""
    since: int | None = None
    last_end = float("-inf")
    for begin, end in spans:
        if begin >= at_ms:
            return None
        if since is None or begin - last_end > SETTLE_SECONDS * 1000:
            since = begin
        last_end = max(last_end, end)
        if begin < at_ms < end:
            return since
    return None


def _last_starts(events: Sequence[Seen]) -> dict[str, int]:
    return {one.job: one.at_ms for one in events}


def _began(workers: App) -> dict[str, int]:
    return {f"n{one['job']}": int(one["at"]) for one in workers.did
            if one["event"] == "began" and one["queue"] == BATCH and one["job"] >= 0}  # fmt: skip


def _usual_length(begun: Mapping[str, int], completed: Sequence[Seen]) -> float:
    """How long a batch job took on this machine, its client's work included: the oracle is no faster a machine."""
    lengths = [one.at_ms - begun[one.job] for one in completed if one.job in begun]
    return sum(lengths) / len(lengths) if lengths else 1.0


def _is_paused(at_ms: int, changes_ms: Sequence[int], kinds: Sequence[str]) -> bool:
    before = [kind for at, kind in zip(changes_ms, kinds, strict=True) if at < at_ms]
    return bool(before) and before[-1] == "paused"


def _in_working_hours(at_ms: int, clock: ScaledClock) -> bool:
    # What Redis dates in the very millisecond of the change is on either side of it.
    return any(opens + 1 < at_ms < closes - 1 for opens, closes in _closed(clock))


def _closed(clock: ScaledClock) -> list[tuple[float, float]]:
    hours = [
        (MIDNIGHT + day * DAY + timedelta(hours=9), MIDNIGHT + day * DAY + timedelta(hours=18)) for day in (0, 1, 2)
    ]
    return [(clock.real_ms(begin), clock.real_ms(end)) for begin, end in hours]


def as_json(outcome: Outcome) -> str:
    """One line."""
    return json.dumps({**outcome.__dict__, "delay_ratio": round(outcome.delay_ratio, 2)})
