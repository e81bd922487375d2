"""The coordinator's own keys in Redis, all below `gpumem:`; and leadership by one of them.

`gpumem:pause:<queue>` holds the mark of a pause (no life: a pause of ours must stay ours, whoever
comes next), `gpumem:lane:<lane>` and `gpumem:status` what applications read (they end by themselves
when nobody renews them), `gpumem:coordinator` who leads.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from helpers.adapters.redis_.connection import answered, connect
from helpers.adapters.renewed_leadership import RenewedLeadership
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


class RedisLeadership(RenewedLeadership):
    """One key in Redis, with Redis's own expiry."""

    def __init__(self, url: str, clock: Clock, log: Log, *, identity: str, life_seconds: float) -> None:
        super().__init__(clock, log, identity=identity, life_seconds=life_seconds)
        self._client = connect(url)

    def _take(self) -> bool:
        with answered("asking for the leadership"):
            life_ms = str(int(self._life_seconds * 1000))
            return bool(self._client.eval(_TAKE, 1, LEADER_KEY, self._identity, life_ms) == self._identity)

    def _give_back(self) -> None:
        try:
            with answered("giving the leadership up"):
                self._client.eval(_GIVE_UP, 1, LEADER_KEY, self._identity)
        finally:
            self._client.close()
