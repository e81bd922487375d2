"""The nodes of a pool: who finds room now, who when, and what is kept for whom.

A pool's free cards in all say little about one node's: sixteen free cards, one on each of sixteen
nodes, hold no worker that wants two. A gang that is let go on the sum alone would start in part.

Nothing here is a placement: who goes where is the scheduler's. So room for now is found by a witness (some
way in which all fit), and what is kept for later is safe wherever the scheduler puts what is let go before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby


@dataclass(frozen=True)
class Room:
    """A node of `amount` cards, instances or MiB in all.

    `spot`: on spot capacity; None: not made yet, and may be either. `held`: `{job_id: of that}`, by pods that are
    there. `count`: so many alike.
    """

    amount: int
    spot: bool | None = False
    held: Mapping[str, int] = field(default_factory=dict)
    name: str = ""
    count: int = 1


@dataclass(frozen=True)
class Seats:
    """`count` pods that want `amount` each; `spot`: on spot capacity alone, else never on it. None: either.

    `avoids`: names of nodes on which they may not be.
    """

    amount: int
    count: int
    spot: bool | None = None
    avoids: frozenset[str] = frozenset()

    def may_be_on(self, room: Room) -> bool:
        """Whether the scheduler may put one there, if there is room."""
        return (None in (room.spot, self.spot) or room.spot is self.spot) and room.name not in self.avoids


@dataclass(frozen=True)
class PoolRooms:
    """A pool's nodes. `unplaced`: `{job_id: pods}` that were let go and are on no node yet."""

    rooms: Sequence[Room]
    unplaced: Mapping[str, Seats] = field(default_factory=dict)


class Nodes:
    """The nodes of a pool one by one, and what is `left` of each."""

    def __init__(self, rooms: Sequence[Room]) -> None:
        self.rooms = [room for room in rooms for _ in range(room.count)]
        self.left = [max(0, room.amount - sum(room.held.values())) for room in self.rooms]
        self._holds: dict[Seats, bool] = {}

    def holds(self, seats: Seats) -> bool:
        """Whether all would find room if nobody else were there."""
        if seats not in self._holds:
            self._holds[seats] = self.fitting_count(seats, [room.amount for room in self.rooms]) >= seats.count
        return self._holds[seats]

    def fitting_count(self, seats: Seats, left: Sequence[int] | None = None) -> int:
        """For how many of them, or more like them, there is room."""
        pairs = zip(self.rooms, self.left if left is None else left, strict=True)
        return sum(free // seats.amount for room, free in pairs if free >= seats.amount and seats.may_be_on(room))

    def seat(self, seats: Seats, left: list[int] | None = None) -> list[tuple[int, int]]:
        """Takes their room away, each in the fullest node that holds it; what of which node, of those that find any."""
        free, taken = self.left if left is None else left, []
        for _ in range(seats.count):
            fitting = [
                (one, index)
                for index, one in enumerate(free)
                if one >= seats.amount and seats.may_be_on(self.rooms[index])
            ]
            if not fitting:
                break
            index = min(fitting)[1]
            free[index] -= seats.amount
            taken.append((index, seats.amount))
        return taken


@dataclass
class _Kept:
    """What is `taken` of which node for a job that waits, from `starts_at`; `spare`: what it leaves of them then."""

    starts_at: datetime
    ends_at: datetime
    taken: Mapping[int, int]
    spare: dict[int, int]


class Floor(Nodes):
    """A pool while turns are decided."""

    def __init__(self, pool: PoolRooms, ends: Mapping[str, datetime]) -> None:
        """`ends`: `{job_id: when its limit ends it}`; who is missing is on the way out."""
        super().__init__(pool.rooms)
        self._free = list(self.left)
        self._held = [
            (ends.get(job_id), index, amount)
            for index, room in enumerate(self.rooms)
            for job_id, amount in room.held.items()
        ]
        self._unplaced: list[tuple[datetime | None, Seats]] = []
        self._kept: list[_Kept] = []
        # Beside the worst place for all that are on no node yet; it may be less than nothing.
        self._sure = list(self.left)
        # Thousands wait, and most ask for what somebody before them asked for.
        self._lacking: dict[Seats, int] = {}
        self._frees: dict[Seats, int] = {}
        self._detours: dict[tuple[Seats, tuple[datetime, ...]], frozenset[str] | None] = {}
        # The largest first, each in the fullest node that holds it, so that as much as can be is left whole.
        self._unseated: list[tuple[datetime | None, Seats]] = []
        for job_id, seats in sorted(pool.unplaced.items(), key=lambda one: -one[1].amount):
            if lacking_count := self.lacking_count(seats):
                self._unseated.append((ends.get(job_id), replace(seats, count=lacking_count)))
            self.take(replace(seats, count=seats.count - lacking_count), ends.get(job_id))

    @property
    def keeps(self) -> bool:
        """Whether room is kept for anybody."""
        return bool(self._kept)

    def keeps_from_before(self, ends_at: datetime) -> bool:
        """Whether it is from before that instant on."""
        return bool(self._kept_before(ends_at))

    def in_all(self, seats: Seats) -> int:
        """What the nodes have on which `seats` may be, whoever has it now."""
        return sum(room.amount for room in self.rooms if seats.may_be_on(room))

    def free(self, seats: Seats) -> int:
        """What they have free now, beside all that were let go."""
        if seats not in self._frees:
            pairs = zip(self.rooms, self.left, strict=True)
            self._frees[seats] = sum(left for room, left in pairs if seats.may_be_on(room))
        return self._frees[seats]

    def lacking_count(self, seats: Seats) -> int:
        """How many find no room now, once all that were let go before have theirs."""
        if seats not in self._lacking:
            self._lacking[seats] = max(0, seats.count - self.fitting_count(seats))
        return self._lacking[seats]

    def take(self, seats: Seats, ends_at: datetime | None) -> None:
        """They are let go."""
        self.seat(seats)
        self._unplaced.append((ends_at, seats))
        for known in (self._lacking, self._frees, self._detours):
            known.clear()
        for index in range(len(self._sure)):
            self._sure[index] -= self._most(seats, index)
        for kept in self._kept_before(ends_at):
            for index in kept.spare:
                kept.spare[index] -= self._most(seats, index)

    def keep_unseated(self, now_at: datetime) -> None:
        """Who was let go and was forestalled on the nodes comes before all that wait."""
        for ends_at, seats in self._unseated:
            self.keep(seats, max(0.0, ((ends_at or now_at) - now_at).total_seconds()), now_at)

    def keep(self, seats: Seats, most_seconds: float, now_at: datetime) -> datetime | None:
        """Keeps the first room that all find together, wherever the scheduler puts who was let go; from when on.

        None: there is none, as far as is known.
        """
        for at, free in self._freed(now_at):
            if self.fitting_count(seats, free) >= seats.count:
                left = list(free)
                self.seat(seats, left)
                taken = {index: free[index] - one for index, one in enumerate(left) if free[index] != one}
                spare = {index: left[index] for index in taken}
                self._kept.append(_Kept(at, at + timedelta(seconds=most_seconds), taken, spare))
                return at
        return None

    def detour(self, seats: Seats, ends_at: datetime) -> frozenset[str] | None:
        """The nodes that they must avoid, so that nobody for whom room is kept starts later; None: that cannot be."""
        before = self._kept_before(ends_at)
        key = (seats, tuple(kept.starts_at for kept in before))
        if key not in self._detours:
            self._detours[key] = self._around(seats, before)
        return self._detours[key]

    def _around(self, seats: Seats, before: Sequence[_Kept]) -> frozenset[str] | None:
        closed = {
            self.rooms[index].name
            for kept in before
            for index, spare in kept.spare.items()
            if self._most(seats, index) > spare
        }
        if "" in closed:  # no node yet, so there is no name by which it could be avoided
            return None
        # With fewer nodes to go to it must not be forestalled: who is let go now is placed when it is asked again.
        around = replace(seats, avoids=seats.avoids | closed)
        return frozenset(closed) if not closed or self.fitting_count(around, self._sure) >= seats.count else None

    def _kept_before(self, ends_at: datetime | None) -> list[_Kept]:
        """What is kept from before that instant on."""
        return [kept for kept in self._kept if ends_at is not None and kept.starts_at < ends_at]

    def _most(self, seats: Seats, index: int) -> int:
        """What they take of a node if the scheduler puts as many there as ever fit, now or when somebody has left."""
        room = self.rooms[index]
        return min(seats.count, room.amount // seats.amount) * seats.amount if seats.may_be_on(room) else 0

    def _freed(self, now_at: datetime) -> Iterator[tuple[datetime, list[int]]]:
        """From each instant on at which a limit ends somebody: what is free on each node then, at the least."""
        free, unplaced = list(self._free), [0] * len(self._free)
        changes = [(max(ends_at or now_at, now_at), index, amount, 0) for ends_at, index, amount in self._held]
        for ends_at, seats in self._unplaced:
            for index in range(len(free)):
                if most := self._most(seats, index):
                    unplaced[index] += most
                    changes.append((max(ends_at or now_at, now_at), index, 0, most))
        for kept in self._kept:
            for index, amount in kept.taken.items():
                free[index] -= amount
                changes.append((kept.ends_at, index, amount, 0))
        changes.sort(key=lambda change: change[0])
        for at, same in groupby(changes, key=lambda change: change[0]):
            for _, index, freed, placed in same:
                free[index] += freed
                unplaced[index] -= placed
            yield at, [max(0, one - unplaced[index]) for index, one in enumerate(free)]
