"""The leases of demand gates: in the book that everybody's leases are in, where the gate has a lane for them."""

from __future__ import annotations

import uuid

from helpers.domain.demand_gates.facts import LeaseState
from helpers.domain.demand_gates.rules import GateRule
from helpers.domain.errors import DependencyError
from helpers.domain.leases.book import Holder, Lease
from helpers.domain.leases.requests import LeaseRefused, LeaseRequest
from helpers.ports.gates import GateLeases
from helpers.ports.log import Log
from helpers.services.leases import LeaseKeeper


def gate_leases(keeper: LeaseKeeper | None, log: Log) -> GateLeases:
    """Those of all gates; `keeper` None: the estate has no leases."""
    unshared = UnsharedLeases()
    return unshared if keeper is None else EitherLeases(BookLeases(keeper, log), unshared)


class UnsharedLeases:
    """`ports.gates.GateLeases` in this process alone: nobody is asked, the gate itself has seen that memory is free.

    For an estate without leases, and for a gate whose lane has queues: what their jobs take stands in
    the book through the lane, and a lease beside it would count the same memory twice.
    """

    def __init__(self) -> None:
        self._held: set[str] = set()

    def state(self, rule: GateRule) -> LeaseState:
        """Granted from the first question on."""
        return "granted" if rule.name in self._held else "none"

    def take(self, rule: GateRule) -> None:
        """Grants it."""
        self._held.add(rule.name)

    def keep(self, rule: GateRule) -> None:
        """Nothing runs out here."""

    def give_back(self, rule: GateRule) -> None:
        """Forgets it."""
        self._held.discard(rule.name)


class BookLeases:
    """`ports.gates.GateLeases` in the book. A gate's lease is known by its holder, so that the next leader finds it."""

    def __init__(self, keeper: LeaseKeeper, log: Log) -> None:
        self._keeper = keeper
        self._log = log
        self._said: dict[str, str] = {}

    def state(self, rule: GateRule) -> LeaseState | None:
        """What the book says now, read afresh."""
        try:
            self._keeper.find(_user(rule))  # no lease is called so; it makes the keeper read
        except DependencyError as error:
            self._complain(rule, str(error))
            return None
        lease = self._lease(rule)
        if lease is None:
            return "none"
        return "granted" if lease.state == "granted" else "queued"

    def take(self, rule: GateRule) -> None:
        """Asks for it, or renews the question."""
        if self._lease(rule) is not None:
            self.keep(rule)
            return
        request = LeaseRequest(
            tenant=rule.workload.tenant,
            mib=rule.need_mib,
            lane=str(rule.lease_lane),
            max_wait_seconds=rule.lease_wait_seconds,
            request_id=f"gate-{uuid.uuid4().hex}",
        )
        try:
            self._keeper.ask(request, Holder(user=_user(rule)))
        except (DependencyError, LeaseRefused) as error:
            self._complain(rule, str(error))
        else:
            self._said.pop(rule.name, None)

    def keep(self, rule: GateRule) -> None:
        """Renews it, and tells the book what the workload's pods measurably use of it."""
        lease = self._lease(rule)
        if lease is None:
            return
        try:
            self._keeper.renew(lease.id, self._used_mib(rule))
        except DependencyError as error:
            self._complain(rule, str(error))

    def give_back(self, rule: GateRule) -> None:
        """Ends it."""
        lease = self._lease(rule)
        if lease is None:
            return
        try:
            self._keeper.release(lease.id)
        except DependencyError as error:
            self._complain(rule, str(error))

    def _lease(self, rule: GateRule) -> Lease | None:
        book = self._keeper.book
        return next((one for one in (*book.granted(), *book.waiting()) if one.holder.user == _user(rule)), None)

    def _used_mib(self, rule: GateRule) -> int | None:
        cards = self._keeper.cards.facts().get(rule.node)
        if not cards or any(card.free_mib is None for card in cards):
            return None
        return sum(rule.used_mib(card.pods_mib) for card in cards)

    def _complain(self, rule: GateRule, reason: str) -> None:
        if self._said.get(rule.name) != reason:
            self._said[rule.name] = reason
            self._log.warning("gate_lease_failed", gate=rule.name, reason=reason)


class EitherLeases:
    """Each gate's where it belongs."""

    def __init__(self, book: GateLeases, unshared: GateLeases) -> None:
        self._book = book
        self._unshared = unshared

    def state(self, rule: GateRule) -> LeaseState | None:
        """As there."""
        return self._of(rule).state(rule)

    def take(self, rule: GateRule) -> None:
        """As there."""
        self._of(rule).take(rule)

    def keep(self, rule: GateRule) -> None:
        """As there."""
        self._of(rule).keep(rule)

    def give_back(self, rule: GateRule) -> None:
        """As there."""
        self._of(rule).give_back(rule)

    def _of(self, rule: GateRule) -> GateLeases:
        return self._unshared if rule.lease_lane is None else self._book


def _user(rule: GateRule) -> str:
    return f"gate:{rule.name}"
