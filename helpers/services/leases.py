"""Keeps the book of leases: every replica notes what is asked and renewed, the leader alone decides.

All replicas read one store, and each change is written over the state that it was made from; of two at
once the slower one begins again. So a request that comes while the leader changes waits, and is not lost.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from helpers.domain.errors import DependencyError
from helpers.domain.lanes.settings import LaneRule
from helpers.domain.leases.book import Book, End, Holder, Lease
from helpers.domain.leases.decision import Decision, Forget, Grant, after, decide
from helpers.domain.leases.facts import LaneUse, LeaseSituation
from helpers.domain.leases.overdue import overdue
from helpers.domain.leases.requests import LeaseRefused, LeaseRequest, other_wish, request_problem, too_many
from helpers.domain.leases.settings import LeaseSettings
from helpers.ports.clock import Clock
from helpers.ports.leadership import Leadership
from helpers.ports.leases import Cards, LeaseMetrics, LeaseStore, StoredBook
from helpers.ports.log import Log
from helpers.services.lease_events import LeaseEvents

POLL_SECONDS = 0.25
_FAILED_SECONDS = 0.5
# Of two writers one wins each time, so this many tries mean that something else is wrong.
_TRIES_COUNT = 20
Change = Callable[[StoredBook], Sequence[Lease]]


@dataclass(frozen=True)
class LeasePorts:
    """What the keeper works with. `lane_uses`: lanes whose jobs run; None where the queues were not looked at."""

    store: LeaseStore
    cards: Cards
    lane_uses: Callable[[], tuple[LaneUse, ...] | None]
    leadership: Leadership
    metrics: LeaseMetrics
    events: LeaseEvents
    clock: Clock
    log: Log


class LeaseKeeper:
    """One process's keeper. `run` it in a thread; the other methods are for any thread.

    All of them raise DependencyError where the store does not answer.
    """

    def __init__(self, ports: LeasePorts, settings: LeaseSettings, lanes: Sequence[LaneRule]) -> None:
        self._ports = ports
        self._settings = settings
        self._lanes = tuple(lanes)
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._led = False
        self._problem = ""
        self._book = Book()

    @property
    def book(self) -> Book:
        """The book as it was read last."""
        return self._book

    @property
    def cards(self) -> Cards:
        """The cards as they were measured last."""
        return self._ports.cards

    def ask(self, request: LeaseRequest, holder: Holder) -> Lease:
        """Enters the request, and decides it at once where this process leads. Asked twice, it is one lease.

        Raises:
            LeaseRefused: it can never be granted, or its id is another request's.
        """
        problem = request_problem(self._settings, self._lanes, request)
        if problem is not None:
            raise LeaseRefused(problem)
        lease_id = request.request_id or uuid.uuid4().hex

        def entered(stored: StoredBook) -> Sequence[Lease]:
            wish = _wish(lease_id, request, holder, stored)
            known = stored.book.get(lease_id)
            refusal = too_many(stored.book, wish) if known is None else other_wish(known, wish)
            if refusal is not None:
                raise LeaseRefused(refusal)
            return () if known is not None else (wish,)

        return self._change(entered).leases[lease_id]

    def known(self, lease_id: str) -> Lease | None:
        """That lease as it was read last; looked for where it was not there."""
        return self._book.get(lease_id) or self.find(lease_id)

    def find(self, lease_id: str) -> Lease | None:
        """That lease as it is now, or None."""
        with self._lock:
            return self._read().book.get(lease_id)

    def renew(self, lease_id: str, used_mib: int | None) -> Lease | None:
        """Notes that its holder lives; None: there is no such lease."""
        if not self._ports.store.renew(lease_id, used_mib):
            return None
        return self.known(lease_id)

    def release(self, lease_id: str) -> Lease | None:
        """Ends it by its holder's wish; None: there is no such lease."""

        def given_back(stored: StoredBook) -> Sequence[Lease]:
            lease = stored.book.get(lease_id)
            if lease is None or lease.state == "ended":
                return ()
            why = "its holder gave it back" if lease.state == "granted" else "its holder does not wait any more"
            return (lease.ended(End.RELEASED, why, stored.now_at),)

        return self._change(given_back).get(lease_id)

    def run(self, stop: Callable[[], bool]) -> None:
        """Looks, and where this process leads decides, until `stop()`."""
        while not stop():
            self.turn()
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()

    def turn(self) -> None:
        """One pass."""
        leads = self._ports.leadership.leads()
        try:
            with self._lock:
                if leads and not self._led:
                    self._take_over()
                if leads:
                    self._change(lambda _: ())
                self._show()
            self._led = leads
        except DependencyError as error:
            self._fail(error, leads)
            return
        if self._problem:
            self._ports.log.info("leases_are_back")
            self._problem = ""
        if leads:
            self._ports.metrics.passed(self._ports.clock.now_at().timestamp(), True)

    def _take_over(self) -> None:
        """Nobody could be renewed while nobody answered: all get their time anew."""

        def renewed(stored: StoredBook) -> Sequence[Lease]:
            living = (*stored.book.granted(), *stored.book.waiting())
            return [lease.model_copy(update={"seen_at": stored.now_at}) for lease in living]

        count = len(self._change(renewed, deciding=False).granted())
        self._ports.log.info("leases_taken_over", granted_count=count)

    def _change(self, change: Change, *, deciding: bool = True) -> Book:
        """Makes one change, with what follows from it where this process leads; the book afterwards."""
        with self._lock:
            for _ in range(_TRIES_COUNT):
                stored = self._read()
                changed = {lease.id: lease for lease in change(stored)}
                book = stored.book.with_(changed.values())
                decisions: tuple[Decision, ...] = ()
                if deciding and self._ports.leadership.leads():
                    decisions = self._decide(book, stored)
                    book = after(book, decisions)
                    changed |= {one.lease.id: one.lease for one in decisions}
                dropped = [one.lease.id for one in decisions if isinstance(one, Forget)]
                written = [lease for key, lease in changed.items() if key not in dropped]
                if not changed or self._ports.store.commit(stored.version, written, dropped):
                    self._book = book
                    self._say(stored.book, decisions)
                    return book
        raise DependencyError("the leases change faster than they can be written; try again")

    def _decide(self, book: Book, stored: StoredBook) -> tuple[Decision, ...]:
        return decide(self._settings, self._lanes, book, self._situation(stored))

    def _situation(self, stored: StoredBook) -> LeaseSituation:
        ports = self._ports
        return LeaseSituation(stored.now_at, ports.clock.now_at(), ports.cards.facts(), ports.lane_uses())

    def _read(self) -> StoredBook:
        stored = self._ports.store.read()
        gone = [lease for lease in self._book.granted() if stored.book.get(lease.id) is None]
        if gone:
            self._ports.metrics.lost(len(gone))
            self._ports.log.warning(
                "leases_lost",
                leases=[lease.id for lease in gone],
                reason="the store does not have them any more (a flush, a failover); their holders are told",
            )
        self._book = stored.book
        return stored

    def _show(self) -> None:
        stored = self._read()
        situation = self._situation(stored)
        self._ports.metrics.shown(stored.book, overdue(stored.book, situation), stored.now_at)

    def _say(self, before: Book, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Grant):
                self._ports.metrics.granted(decision.lease)
                self._log("lease_granted", decision.lease)
        for lease in self._book.ended():
            known = before.get(lease.id)
            if known is None or known.state != "ended":
                self._ended(lease)

    def _ended(self, lease: Lease) -> None:
        self._ports.metrics.ended(lease, lease.end or End.RELEASED)
        self._log(f"lease_{lease.end}", lease)
        holder = self._settings.holder(lease.tenant)
        if holder is not None:
            self._ports.events.ended(lease, holder)

    def _log(self, event: str, lease: Lease) -> None:
        self._ports.log.info(event, lease=lease.id, tenant=lease.tenant, lane=lease.lane, mib=lease.mib,
                             user=lease.holder.user, pod=lease.holder.pod, node=lease.node, gpu=lease.gpu_index,
                             reason=lease.reason)  # fmt: skip

    def _fail(self, error: DependencyError, leads: bool) -> None:
        if str(error) != self._problem:
            self._problem = str(error)
            self._ports.log.warning("leases_not_reachable", reason=str(error))
        self._led = False  # what could not be renewed meanwhile gets its time anew
        if leads:
            self._ports.metrics.passed(self._ports.clock.now_at().timestamp(), False)
        self._ports.clock.sleep_seconds(_FAILED_SECONDS)


def _wish(lease_id: str, request: LeaseRequest, holder: Holder, stored: StoredBook) -> Lease:
    return Lease(
        id=lease_id,
        tenant=request.tenant,
        lane=request.lane,
        mib=request.mib,
        max_wait_seconds=request.max_wait_seconds,
        holder=holder,
        asked_at=stored.now_at,
        seen_at=stored.now_at,
    )
