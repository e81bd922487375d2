"""Whether all workers of a job find room at once. A witness, not a placement: who goes where is the scheduler's.

A pool's free cards in all say little about one node's: sixteen free cards, one on each of sixteen
nodes, hold no worker that wants two. A gang that is let go on the sum alone would start in part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Room:
    """A node with `free` cards, instances or MiB; `spot`: on spot capacity, None: not made yet. `count`: so many."""

    free: int
    spot: bool | None = False
    count: int = 1


@dataclass(frozen=True)
class Seats:
    """`count` pods that want `amount` each; `spot`: on spot capacity alone, else never on it. None: either."""

    amount: int
    count: int
    spot: bool | None = None


def lacking_count(wanted: Seats, before: Iterable[Seats], rooms: Iterable[Room]) -> int:
    """How many pods of `wanted` find no room once those of `before`, who were let go earlier, have theirs.

    The largest first, each in the fullest node that holds it, so that as much as can be is left whole.
    """
    left = [[room.free, room.spot] for room in rooms for _ in range(room.count)]
    for seats in sorted(before, key=lambda one: -one.amount):
        _seat(seats, left)
    return _seat(wanted, left)


def _seat(seats: Seats, left: list[list[Any]]) -> int:
    """Takes the room of `seats` away; how many found none."""
    for seated in range(seats.count):
        fitting = [
            one for one in left if one[0] >= seats.amount and (None in (one[1], seats.spot) or one[1] is seats.spot)
        ]
        if not fitting:
            return seats.count - seated
        best = min(fitting, key=lambda one: one[0])
        best[0] -= seats.amount
    return 0
