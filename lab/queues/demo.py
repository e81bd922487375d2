"""`make demo-queues`: chat and batch share one card on this machine, as the guide says, in half a minute.

A real Redis, an application with two real BullMQ queues, the coordinator as a process, on the estate
`estates/rtx2060super.yaml`. Ollama and the card's exporter are the lab's stand-ins.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from helpers.domain.errors import GpumemError
from helpers.domain.estate.coordinator import Redis
from helpers.domain.estate.windows import LaneWindow
from helpers.domain.lanes.settings import CoordinatorSettings, coordinator_settings
from helpers.rendering.estate_file import load_estate
from lab.errors import LabError
from lab.ollama import StandInOllama, stand_in_ollama
from lab.queues.apps import App, app, wait_until
from lab.queues.coordinators import CoordinatorProcess
from lab.redis_server import redis_server
from lab.small_exporter import lab_exporter

ESTATE = Path(__file__).parents[2] / "estates" / "rtx2060super.yaml"
BATCH_JOBS_COUNT = 6
WORK_SECONDS = 0.4
AWAY_AFTER_SECONDS = 2.0


class Stage:
    """All that runs beside the coordinator, and lines with the seconds since the beginning."""

    def __init__(self, ollama: StandInOllama, application: App) -> None:
        self.ollama = ollama
        self.application = application
        self._began_seconds = time.monotonic()

    def say(self, text: str) -> None:
        """One line of the story."""
        print(f"{time.monotonic() - self._began_seconds:5.1f} s  {text}", flush=True)

    def add(self, queue: str, *numbers: int) -> None:
        """Jobs that ask Ollama something."""
        ask = {"model": "gemma4:e4b-q8_0", "prompt": "What fits on 8 GB?"}
        data = {"url": f"{self.ollama.url}/api/generate", "post": ask}
        self.application.ask("add", queue=queue, jobs=[{"data": {**data, "n": number}} for number in numbers])

    def did(self, event: str, queue: str) -> list[dict[str, Any]]:
        """What the queue's worker said."""
        return [one for one in list(self.application.did) if (one["event"], one["queue"]) == (event, queue)]


def chat_comes_first(stage: Stage, running: CoordinatorProcess) -> None:
    """Batch works; somebody chats; batch waits, and comes back."""
    stage.say(f"batch has {BATCH_JOBS_COUNT} jobs, and nobody chats: they run one after the other")
    stage.add("ai-batch", *range(1, BATCH_JOBS_COUNT + 1))
    wait_until(lambda: len(stage.did("ended", "ai-batch")) == 2, "two batch jobs are done")
    paused_count = len(running.of("queue_paused"))
    stage.add("ai-realtime", 1)
    stage.say("somebody asks the chat something")
    wait_until(lambda: len(running.of("queue_paused")) > paused_count, "batch is paused")
    wait_until(lambda: bool(stage.did("began", "ai-realtime")), "the chat's job has begun")
    began_seconds = stage.did("began", "ai-realtime")[0]["at"] / 1000
    paused = running.of("queue_paused")[-1]
    took_ms = 1000 * (datetime.fromisoformat(paused["ts"]).timestamp() - began_seconds)
    stage.say(f"batch is paused, {took_ms:.0f} ms after the chat's job began: {paused['reason']}")
    wait_until(lambda: bool(stage.did("ended", "ai-realtime")), "the chat is answered")
    left_count = BATCH_JOBS_COUNT - len(stage.did("ended", "ai-batch"))
    stage.say(f"the chat is answered; {left_count} batch jobs wait until it has been quiet for a while")
    resumed_count = len(running.of("queue_resumed"))
    wait_until(lambda: len(running.of("queue_resumed")) > resumed_count, "batch is resumed")
    stage.say("batch is resumed")
    wait_until(lambda: len(stage.did("ended", "ai-batch")) == BATCH_JOBS_COUNT, "all batch jobs are done")
    stage.say(f"all {BATCH_JOBS_COUNT} batch jobs are done, each once")


def the_card_goes_away(stage: Stage, running: CoordinatorProcess) -> None:
    """Ollama dies and comes back."""
    paused_count = len(running.of("queue_paused"))
    stage.ollama.down = True
    stage.say("Ollama dies")
    wait_until(lambda: _status(running)[0] == 503, "the fallback has begun")
    wait_until(lambda: len(running.of("queue_paused")) > paused_count, "batch is paused")
    code, document, retry_after = _status(running)
    stage.say(f'GET /v1/status: {code}, Retry-After {retry_after}, "{document["message"]}"; batch is paused')
    resumed_count = len(running.of("queue_resumed"))
    stage.ollama.down = False
    wait_until(lambda: _status(running)[0] == 200, "the card is back")
    stage.say("Ollama is back: 200")
    wait_until(lambda: len(running.of("queue_resumed")) > resumed_count, "batch is resumed")
    stage.say("batch is resumed")


def batch_has_hours(stage: Stage, running: CoordinatorProcess) -> None:
    """A batch job comes outside its window."""
    stage.add("ai-batch", BATCH_JOBS_COUNT + 1)
    wait_until(lambda: bool(running.of("queue_paused")), "batch is outside its hours")
    stage.say(f"the coordinator is started anew, outside batch's hours: {running.of('queue_paused')[-1]['reason']}")


def _status(running: CoordinatorProcess) -> tuple[int, dict[str, Any], str]:
    try:
        answer = httpx.get(f"{running.url}/v1/status", timeout=5)
    except httpx.HTTPError as error:
        raise LabError(f"the coordinator does not answer: {error}") from error
    return answer.status_code, answer.json(), answer.headers.get("Retry-After", "")


def settings_for(redis_url: str, ollama_url: str, exporter_url: str, *, batch_is_open: bool) -> CoordinatorSettings:
    """The estate's, on this machine, with batch hours that hold now or begin in two hours."""
    estate = load_estate(ESTATE)[0]
    if estate.coordinator is None:
        raise LabError(f"{ESTATE} has no block coordinator")
    from_at = datetime.now(UTC) + timedelta(hours=-1 if batch_is_open else 2)
    hours = {"from": f"{from_at:%H}:00", "to": f"{from_at + timedelta(hours=3):%H}:59"}
    windows = (LaneWindow.model_validate(hours),)
    lanes = [one.model_copy(update={"windows": windows} if one.windows else {}) for one in estate.coordinator.lanes]
    engine = {"ollama_url": ollama_url, "exporter_url": exporter_url, "away_after_seconds": AWAY_AFTER_SECONDS}
    engines = [one.model_copy(update=engine) for one in estate.coordinator.engines]
    changes = {"redis": Redis(url=redis_url), "lanes": tuple(lanes), "engines": tuple(engines)}
    block = estate.coordinator.model_copy(update=changes)
    found = coordinator_settings(estate.model_copy(update={"coordinator": block}))
    if found is None:
        raise LabError(f"{ESTATE} has no coordinator")
    return found


@contextmanager
def _world(folder: Path) -> Iterator[tuple[Stage, str, str]]:
    models = {"gemma4:e4b-q8_0": 4608, "nomic-embed-text": 512}
    with ExitStack() as stack:
        server = stack.enter_context(redis_server(folder / "redis"))
        ollama = stack.enter_context(stand_in_ollama(StandInOllama(models, work_seconds=WORK_SECONDS)))
        exporter = stack.enter_context(lab_exporter("desk-5439", lambda: ollama.usage("desk-5439")))
        application = stack.enter_context(app(server.url, 5))
        for queue in ("ai-realtime", "ai-batch"):
            application.ask("work", queue=queue)
        yield Stage(ollama, application), server.url, f"http://127.0.0.1:{exporter.port}/metrics"


@contextmanager
def _coordinator(chosen: CoordinatorSettings, folder: Path) -> Iterator[CoordinatorProcess]:
    """One that is stopped as an operator does it, so that the next one need not wait until it counts as dead."""
    running = CoordinatorProcess(chosen, folder)
    try:
        yield running.ready()
    finally:
        running.stop()


def main() -> int:
    """Tells the story; 1 where it does not go as it should, 3 where something is missing."""
    try:
        with (
            tempfile.TemporaryDirectory(prefix="gpumem-queues-") as name,
            _world(Path(name)) as (stage, redis, exporter),
        ):
            for batch_is_open, acts in ((True, (chat_comes_first, the_card_goes_away)), (False, (batch_has_hours,))):
                chosen = settings_for(redis, stage.ollama.url, exporter, batch_is_open=batch_is_open)
                with _coordinator(chosen, Path(name)) as running:
                    for act in acts:
                        act(stage, running)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    except GpumemError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
