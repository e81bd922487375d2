"""What an estate's cards cost, by tenant and part, from a recorded trace; each card's bill closes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median

from helpers.domain import names
from helpers.domain.cost.price_history import PriceHistory, history_of
from helpers.domain.cost.price_table import CapacityType
from helpers.domain.cost.shared_card import Budgeted, Card, CardBill, Measured, card_bill
from helpers.domain.errors import CheckFailed
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Gpu, Node
from helpers.domain.estate.prices import Prices
from helpers.domain.jobs.gpus import card_sizes
from helpers.domain.jobs.places import SPOT, card_of
from helpers.domain.watchdog.facts import GpuSample, PodFacts
from helpers.domain.watchdog.trace import Frame, Trace
from helpers.services.trace_cards import kinds_by_name, models_by_size

# Nobody knows what was used in a gap of so many usual steps; the budgets were held all the same.
_GAP_STEPS_COUNT = 3


@dataclass(frozen=True, slots=True)
class BilledCard:
    """One card's bill. `gpu`: its key in the price table; empty where it has no price."""

    card: str
    gpu: str
    capacity_type: CapacityType
    bill: CardBill


@dataclass(frozen=True, slots=True)
class EstateBill:
    """All cards of which the estate knows what they are. `notes`: what is not in it, and why."""

    from_at: datetime
    to_at: datetime
    cards: tuple[BilledCard, ...]
    notes: tuple[str, ...]


def estate_bill(estate: Estate, trace: Trace) -> EstateBill:
    """The bill from the trace's first look to its last.

    A trace has no labels, so only entries with node_name, or the only entry, are known.

    Raises:
        CheckFailed: no card can be billed; the message says why.
    """
    known = kinds_by_name(estate, trace)
    models = models_by_size(estate, trace, known)
    looks = _Looks(trace)
    prices = estate.manager.prices if estate.manager is not None else Prices()
    history, cards, notes = history_of(prices), [], list(looks.notes)
    for uuid, sample in sorted(looks.seen.items(), key=lambda one: one[1].card):
        entry = next((node for node in estate.nodes if node.name == known.get(sample.node)), None)
        gpu = next((one for one in entry.gpus if one.model == models.get(uuid)), None) if entry is not None else None
        if entry is None or gpu is None:
            lacking = "entry under nodes" if entry is None else f"card of nodes[{entry.name}]"
            notes.append(f"{sample.card} ({uuid}): not billed, which {lacking} it is cannot be told")
            continue
        card = _billed(looks, uuid, sample, entry, gpu, prices, history)
        if card.bill.unpriced_seconds:
            repair = f"give it one under manager.prices.cards{'' if card.gpu else ', with add_card: true'}"
            notes.append(f"{sample.card} ({gpu.model}): no price for all of the time; {repair}")
        cards.append(card)
    if not cards:
        raise CheckFailed("no card can be billed: " + ("; ".join(notes) or "the trace has one look, and no time"))
    return EstateBill(looks.from_at, looks.to_at, tuple(cards), tuple(notes))


def _billed(
    looks: _Looks, uuid: str, sample: GpuSample, entry: Node, gpu: Gpu, prices: Prices, history: PriceHistory
) -> BilledCard:
    named = card_of(gpu.model, gpu.physical_mib, card_sizes(prices))
    key = f"{named[0]}_{named[1]}GB" if named is not None else ""
    is_spot = (entry.selector or {}).get(names.CAPACITY_TYPE_LABEL) == SPOT
    capacity_type = CapacityType.SPOT if is_spot else CapacityType.ON_DEMAND
    spans = list(history.spans(key, capacity_type, looks.from_at, looks.to_at))
    card = Card(uuid, gpu.physical_mib, gpu.advertised_mib)
    bill = card_bill(card, spans, looks.budgeted(uuid), looks.measured(uuid))
    return BilledCard(sample.card, key, capacity_type, bill)


class _Looks:
    """A trace as stretches of time: what a look shows holds until the next one."""

    def __init__(self, trace: Trace) -> None:
        self._spans = [(frame, frame.at.astimezone(UTC), after.at.astimezone(UTC)) for frame, after in pairwise(trace)]
        self.from_at, self.to_at = trace[0].at.astimezone(UTC), trace[-1].at.astimezone(UTC)
        steps = [(to_at - from_at).total_seconds() for _, from_at, to_at in self._spans]
        self._longest = timedelta(seconds=_GAP_STEPS_COUNT * median(steps)) if steps else timedelta()
        self.seen: dict[str, GpuSample] = {}
        self._cards: dict[str, set[str]] = defaultdict(set)
        for frame, _, _ in self._spans:
            for sample in frame.samples:
                self.seen.setdefault(sample.uuid, sample)
                self._cards[sample.node].add(sample.uuid)
        self._unplaced: set[tuple[str, str]] = set()
        self._budgets = self._placed()

    @property
    def notes(self) -> list[str]:
        """Whose budget lies on no card that can be told."""
        several = "while it uses no card: several are there, and a number names none"
        return [
            f"{subject}: its budget on {node} is on no bill {several if self._cards[node] else '(no card was seen)'}"
            for subject, node in sorted(self._unplaced)
        ]

    def budgeted(self, uuid: str) -> list[Budgeted]:
        """Every pod's budget on that card."""
        return self._budgets.get(uuid, [])

    def measured(self, uuid: str) -> list[Measured]:
        """What every tenant used of it, in looks that are to be believed; who is not in such a look used nothing."""
        found: list[Measured] = []
        for frame, from_at, to_at in self._spans:
            sample = next((one for one in frame.samples if one.uuid == uuid), None)
            if sample is None or not sample.ok or to_at - from_at > self._longest:
                continue
            subjects = {(pod.namespace, pod.name): pod.subject for pod in frame.pods if pod.node == sample.node}
            used = dict.fromkeys(subjects.values(), 0)
            for row in sample.pods:
                if row.pod:
                    subject = subjects.get((row.namespace, row.pod), f"{row.namespace}/Pod/{row.pod}")
                    used[subject] = used.get(subject, 0) + row.used_mib
            found += [Measured(subject, mib, from_at, to_at) for subject, mib in used.items()]
        return found

    def _placed(self) -> dict[str, list[Budgeted]]:
        """`{uuid: budgets}`; a budget that does not change is one stretch."""
        found: dict[str, list[Budgeted]] = defaultdict(list)
        open_: dict[tuple[str, str, str, int], tuple[datetime, datetime]] = {}
        last: dict[str, str] = {}
        for frame, from_at, to_at in self._spans:
            for pod in frame.pods:
                for uuid, mib in self._budgets_of(pod, frame, last):
                    key = (pod.uid, uuid, pod.subject, mib)
                    begun_at, ended_at = open_.get(key, (from_at, from_at))
                    if ended_at != from_at:
                        found[uuid].append(Budgeted(pod.subject, mib, begun_at, ended_at))
                        begun_at = from_at
                    open_[key] = (begun_at, to_at)
        for (_, uuid, subject, mib), (begun_at, ended_at) in open_.items():
            found[uuid].append(Budgeted(subject, mib, begun_at, ended_at))
        return found

    def _budgets_of(self, pod: PodFacts, frame: Frame, last: dict[str, str]) -> Iterator[tuple[str, int]]:
        if pod.cards is not None:
            yield from ((card.uuid, card.budget_mib) for card in pod.cards)
            return
        if not pod.budget_mib:
            return
        uuid = _only(self._cards[pod.node]) or _used_most(pod, frame) or last.get(pod.uid)
        if uuid is None:
            self._unplaced.add((pod.subject, pod.node))
            return
        last[pod.uid] = uuid
        yield uuid, pod.budget_mib


def _only(uuids: Set[str]) -> str | None:
    return next(iter(uuids)) if len(uuids) == 1 else None


def _used_most(pod: PodFacts, frame: Frame) -> str | None:
    """The card on which it has most memory; None: it has none on any."""
    used = {
        sample.uuid: sum(row.used_mib for row in sample.pods if (row.namespace, row.pod) == (pod.namespace, pod.name))
        for sample in frame.samples
        if sample.node == pod.node
    }
    most = max(used, key=lambda uuid: used[uuid], default="")
    return most if used.get(most) else None
