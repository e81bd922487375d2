"""Leadership by a record with a life that is renewed as it is asked for; where the record is, a subclass knows.

The holder stops believing in it after two thirds of that life on its own clock, counted from before it
asked; another process gets the record only after the whole of it, on the clock of where the record is.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

from helpers.domain.errors import DependencyError
from helpers.ports.clock import Clock
from helpers.ports.log import Log

_ASKS_PER_LIFE = 6
_BELIEVED_RATIO = 2 / 3
_NEVER = float("-inf")


class RenewedLeadership(ABC):
    """`ports.leadership.Leadership` for plain processes."""

    def __init__(self, clock: Clock, log: Log, *, identity: str, life_seconds: float) -> None:
        self._clock = clock
        self._log = log
        self._identity = identity
        self._life_seconds = life_seconds
        self._until_seconds = _NEVER
        self._asked_seconds = _NEVER
        self._led = False
        self._lock = threading.Lock()

    @abstractmethod
    def _take(self) -> bool:
        """Takes or renews the record; whether it is ours now. DependencyError: not answered."""

    @abstractmethod
    def _give_back(self) -> None:
        """Removes the record where it is ours. DependencyError: not answered."""

    def leads(self) -> bool:
        """Whether this process may act now; asks a few times in each life. Any thread may ask."""
        with self._lock:
            now_seconds = self._clock.monotonic_seconds()
            if now_seconds - self._asked_seconds >= self._life_seconds / _ASKS_PER_LIFE:
                self._asked_seconds = now_seconds
                self._ask(now_seconds)
            leads = self._clock.monotonic_seconds() < self._until_seconds
            if leads != self._led:
                self._led = leads
                self._log.info("leadership_won" if leads else "leadership_lost", identity=self._identity)
            return leads

    def give_up(self) -> None:
        """Lets the next process lead at once."""
        self._until_seconds = _NEVER
        try:
            self._give_back()
        except DependencyError as error:
            self._log.warning("leadership_not_given_up", reason=str(error))  # its life ends by itself

    def _ask(self, now_seconds: float) -> None:
        try:
            taken = self._take()
        except DependencyError as error:
            # Not answered is not refused: what was renewed holds until its time.
            self._log.warning("leadership_not_renewed", reason=str(error))
            return
        self._until_seconds = now_seconds + self._life_seconds * _BELIEVED_RATIO if taken else _NEVER
