"""The race in the reference's own listing, and that it is none here.

The listing: `active` of a realtime job pauses batch; `completed` asks for the number of active realtime
jobs and resumes batch where it is 0. Between the end of one job and the start of the next that number
is 0, and the handler's `resume` may arrive after the next job's `pause`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

from helpers.domain.lanes.decision import Pause, Resume, decide
from tests.fakes.lanes import mark, queue, settings, situation


@dataclass
class World:
    """One realtime worker (concurrency 1) and the batch queue's flag, as Redis holds them."""

    active: int = 0
    waiting: int = 0
    batch_paused: bool = False

    def finish(self) -> None:
        self.active -= 1

    def start(self) -> None:
        self.waiting -= 1
        self.active += 1


def listing_active(world: World) -> Generator[None, None, None]:
    """`pauseBatch`: one round trip."""
    yield
    world.batch_paused = True


def listing_completed(world: World) -> Generator[None, None, None]:
    """`resumeBatch`: a round trip for the count, another for the resume."""
    yield
    active_count = world.active
    yield
    if active_count == 0:
        world.batch_paused = False


def interleave(world: World) -> None:
    """Job 1 ends, its handler counts, job 2 starts and pauses, and only then the handler's resume arrives."""
    world.finish()
    completed = listing_completed(world)
    next(completed)
    next(completed)  # counted: nothing is active
    world.start()
    active = listing_active(world)
    for _ in active:
        pass
    for _ in completed:
        pass


def interleave_coordinator(world: World, observe: Callable[[World], None]) -> None:
    world.finish()
    observe(world)
    world.start()
    observe(world)


def invariant(world: World) -> bool:
    return world.batch_paused or world.active == 0


def test_the_listing_s_logic_leaves_batch_running_beside_a_realtime_job() -> None:
    world = World(active=1, waiting=1, batch_paused=True)
    interleave(world)
    assert world.active == 1
    assert not invariant(world)  # the race: batch runs beside realtime until the next job starts


def test_the_coordinator_decides_on_one_snapshot_and_waits_until_it_has_settled() -> None:
    seen: list[bool] = []

    def observe(world: World) -> None:
        batch = queue("batch", paused=world.batch_paused, mark=mark("batch") if world.batch_paused else None)
        realtime = queue("realtime", active_count=world.active, wait_count=world.waiting)
        # The pass before saw the first job running: at 1000 s it is busy or was so this very moment.
        now = situation(realtime, batch, busy_seconds={"realtime": 1000.0})
        (decision,) = decide(settings(), now)[1]
        if isinstance(decision, Pause):
            world.batch_paused = True
        if isinstance(decision, Resume):
            world.batch_paused = False
        seen.append(invariant(world))

    world = World(active=1, waiting=1, batch_paused=True)
    interleave_coordinator(world, observe)
    assert (world.active, seen) == (1, [True, True])


def test_without_settling_and_with_a_gap_between_two_jobs_it_would_flap() -> None:
    """Negative control: what keeps batch paused in the gap is the settling time, nothing else."""
    gap = situation(queue("realtime"), queue("batch", paused=True, mark=mark("batch")))
    assert isinstance(decide(settings(), gap)[1][0], Resume)
    assert not isinstance(decide(settings(), replace(gap, busy_seconds={"realtime": 999.9}))[1][0], Resume)
