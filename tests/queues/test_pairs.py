"""Application major x client major, with real clients: which pairs keep every job, and that ours is one of them.

KNOBS of the field: majors 4 and 5 move jobs between two lists on pause, 6 does not. Here every pair is
shown, the losing ones included, and the coordinator's own choice for each application.
"""

from __future__ import annotations

import pytest

from helpers.adapters.bullmq_clients.hands import BullmqHands
from helpers.adapters.redis_.queue_view import RedisQueues
from helpers.domain.lanes.clients import ClientName, client_for
from helpers.domain.lanes.facts import QueueFacts
from lab.queues.apps import App, app, wait_until
from lab.redis_server import RedisServer
from tests.fakes.outside import FakeLog

NAMES: tuple[ClientName, ...] = ("4", "5", "6")
BEFORE, DURING = [1, 2, 3], [4, 5]


def facts_of(url: str) -> QueueFacts:
    view = RedisQueues(url, "bull", ["ai-batch"], FakeLog())
    try:
        return view.snapshot()["ai-batch"]
    finally:
        view.close()


def drained(application: App) -> list[int]:
    """Starts the application's worker; the jobs that it finds."""
    application.ask("work", queue="ai-batch")
    wait_until(lambda: len(application.ended("ai-batch")) >= 1, "a first job ended")
    counts = ("wait", "waiting", "active", "paused", "prioritized", "delayed")

    def empty() -> bool:
        found = application.ask("counts", queue="ai-batch")
        return not any(found.get(name, 0) for name in counts)

    wait_until(empty, "the queue is empty")
    return sorted(application.ended("ai-batch"))


@pytest.mark.parametrize("major", [4, 5, 6])
def test_the_coordinator_s_own_choice_keeps_every_job(major: int, redis_box: RedisServer) -> None:
    hands = BullmqHands(redis_box.url, "bull", FakeLog())
    with app(redis_box.url, major) as application:
        application.add("ai-batch", *BEFORE)
        chosen = client_for(facts_of(redis_box.url), None)
        assert chosen == str(major)
        hands.pause("ai-batch", chosen)
        assert application.ask("isPaused", queue="ai-batch") is True
        application.add("ai-batch", *DURING)
        seen = facts_of(redis_box.url)
        assert (seen.paused, seen.waiting_count, seen.version.split(".")[0]) == (True, 5, f"bullmq:{major}")
        again = client_for(seen, None)
        assert again == str(major)
        hands.resume("ai-batch", again)
        assert drained(application) == BEFORE + DURING
    hands.close()


LOSING = {(4, "6"), (5, "6")}
"""The coordinator pauses with 6, the application adds jobs, and resumes by itself: RENAME over `wait`."""


@pytest.mark.parametrize("client", NAMES)
@pytest.mark.parametrize("major", [4, 5, 6])
def test_which_foreign_pauses_an_application_s_own_resume_survives(
    major: int, client: ClientName, redis_box: RedisServer
) -> None:
    """Why the client is chosen by the application's version: the wrong pair loses the jobs added before."""
    hands = BullmqHands(redis_box.url, "bull", FakeLog())
    with app(redis_box.url, major) as application:
        application.add("ai-batch", *BEFORE)
        hands.pause("ai-batch", client)
        application.add("ai-batch", *DURING)
        application.ask("resume", queue="ai-batch")
        found = drained(application)
    hands.close()
    expected = DURING if (major, client) in LOSING else BEFORE + DURING
    assert found == expected


@pytest.mark.parametrize("major", [4, 5, 6])
def test_a_queue_split_by_a_wrong_pause_is_joined_again(major: int, redis_box: RedisServer) -> None:
    """Somebody paused with 6 what belongs to 4 or 5: the coordinator's resume still finds every job."""
    hands = BullmqHands(redis_box.url, "bull", FakeLog())
    with app(redis_box.url, major) as application:
        application.add("ai-batch", *BEFORE)
        hands.pause("ai-batch", "6")
        application.add("ai-batch", *DURING)
        seen = facts_of(redis_box.url)
        chosen = client_for(seen, None)
        assert chosen == "6"
        hands.resume("ai-batch", chosen)
        assert drained(application) == BEFORE + DURING
    hands.close()


def test_looking_and_pausing_leave_the_application_s_version_where_it_is(redis_box: RedisServer) -> None:
    hands = BullmqHands(redis_box.url, "bull", FakeLog())
    with app(redis_box.url, 5) as application:
        application.add("ai-batch", 1)
        before = facts_of(redis_box.url).version
        for client in NAMES:
            hands.pause("ai-batch", client)
            hands.resume("ai-batch", client)
        assert facts_of(redis_box.url).version == before
    hands.close()


def test_a_paused_queue_with_a_version_4_wake_up_entry_counts_no_job(redis_box: RedisServer) -> None:
    with app(redis_box.url, 4) as application:
        application.add("ai-batch", 1, delay=60_000)
        seen = facts_of(redis_box.url)
        assert (seen.waiting_count, seen.delayed_count) == (0, 1)
