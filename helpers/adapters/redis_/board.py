"""The coordinator's own keys in Redis, all below `gpumem:`; and leadership by one of them.

`gpumem:pause:<queue>` holds the mark of a pause (no life: a pause of ours must stay ours, whoever
comes next), `gpumem:lane:<lane>` and `gpumem:status` what applications read (they end by themselves
when nobody renews them), `gpumem:coordinator` who leads.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import timedelta

from helpers.adapters.redis_.connection import answered, connect
from helpers.domain.errors import DependencyError
from helpers.domain.lanes.facts import PauseMark
from helpers.ports.clock import Clock
from helpers.ports.log import Log

ROOT = "gpumem:"
LEADER_KEY = f"{ROOT}coordinator"

# Renewed only by its holder, taken only where there is none; one step, so that two cannot both have it.
_TAKE = """
local holder = redis.call('GET', KEYS[1])
if not holder or holder == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return ARGV[1]
end
return holder
"""
_GIVE_UP = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def mark_key(queue: str) -> str:
    """Where the mark of `queue` stands."""
    return f"{ROOT}pause:{queue}"


class RedisBoard:
    """`ports.queues.LaneBoard`."""

    def __init__(self, url: str) -> None:
        self._client = connect(url)

    def write_mark(self, mark: PauseMark) -> None:
        """Writes it."""
        with answered(f"marking the pause of {mark.queue}"):
            self._client.set(mark_key(mark.queue), mark.model_dump_json())

    def drop_mark(self, queue: str) -> None:
        """Takes it away."""
        with answered(f"dropping the mark of {queue}"):
            self._client.delete(mark_key(queue))

    def publish(self, documents: Mapping[str, str], life: timedelta) -> None:
        """Writes all of them at once."""
        with answered("publishing the lanes"):
            pipeline = self._client.pipeline(transaction=True)
            for key, text in documents.items():
                pipeline.set(f"{ROOT}{key}", text, px=life)
            pipeline.execute()

    def close(self) -> None:
        """Ends the connections."""
        self._client.close()


class RedisLeadership:
    """`ports.leadership.Leadership` for plain processes: one key with a life, renewed as it is asked for.

    The holder stops believing in it after two thirds of that life on its own clock, counted from
    before it asked; another process gets the key only after the whole of it on Redis's.
    """

    def __init__(self, url: str, clock: Clock, log: Log, *, identity: str, life_seconds: float) -> None:
        self._client = connect(url)
        self._clock = clock
        self._log = log
        self._identity = identity
        self._life_seconds = life_seconds
        self._until_seconds = float("-inf")
        self._asked_seconds = float("-inf")
        self._led = False
        self._lock = threading.Lock()

    def leads(self) -> bool:
        """Whether this process may act now; asks Redis a few times in each life. Any thread may ask."""
        with self._lock:
            return self._leads()

    def _leads(self) -> bool:
        now_seconds = self._clock.monotonic_seconds()
        if now_seconds - self._asked_seconds >= self._life_seconds / 6:
            self._asked_seconds = now_seconds
            self._ask(now_seconds)
        leads = self._clock.monotonic_seconds() < self._until_seconds
        if leads != self._led:
            self._led = leads
            self._log.info("leadership_won" if leads else "leadership_lost", key=LEADER_KEY, identity=self._identity)
        return leads

    def give_up(self) -> None:
        """Lets the next process lead at once."""
        self._until_seconds = float("-inf")
        try:
            with answered("giving the leadership up"):
                self._client.eval(_GIVE_UP, 1, LEADER_KEY, self._identity)
        except DependencyError as error:
            self._log.warning("leadership_not_given_up", reason=str(error))  # its life ends by itself
        self._client.close()

    def _ask(self, now_seconds: float) -> None:
        try:
            with answered("asking for the leadership"):
                holder = self._client.eval(_TAKE, 1, LEADER_KEY, self._identity, str(int(self._life_seconds * 1000)))
        except DependencyError as error:
            # Not answered is not refused: what was renewed holds until its time.
            self._log.warning("leadership_not_renewed", reason=str(error))
            return
        self._until_seconds = now_seconds + self._life_seconds * 2 / 3 if holder == self._identity else float("-inf")
