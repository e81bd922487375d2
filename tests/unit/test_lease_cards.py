"""What is measured of the cards that leases are on, and when it is unknown."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from helpers.domain.watchdog.facts import ContainerUse, GpuSample
from helpers.ports.watchdog_telemetry import ExporterTarget, Scrape
from helpers.services.lease_cards import STALE_AFTER_SECONDS, LeaseCards
from tests.fakes.leases import node_rule
from tests.fakes.outside import FakeClock, FakeLog

USES = (ContainerUse("train", "t-0", "a", 300), ContainerUse("train", "t-0", "b", 200))


class Exporters:
    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.fields: dict[str, Any] | None = {}

    def scrape(self, targets: Iterable[ExporterTarget]) -> tuple[Scrape, ...]:
        (target,) = targets
        if self.fields is None:
            return (Scrape(target, None, "no answer"),)
        block: dict[str, Any] = {
            "node": "desk", "gpu": "0", "uuid": "GPU-0", "sampled_at": self.clock.now_at(), "ok": True,
            "total_mib": 8192, "used_mib": 500, "free_mib": 7000, "pods": USES,
        }  # fmt: skip
        return (Scrape(target, (GpuSample(**(block | self.fields)),)),)

    def forget(self, targets: Iterable[ExporterTarget]) -> None:
        """Nothing is kept."""


def measured(exporters: Exporters, clock: FakeClock) -> LeaseCards:
    cards = LeaseCards(exporters, (node_rule(),), clock, FakeLog())
    cards.look()
    return cards


def test_free_memory_and_the_use_of_each_pod() -> None:
    clock = FakeClock()
    (card,) = measured(Exporters(clock), clock).facts()["desk"]
    assert (card.free_mib, card.problem, card.pods_mib) == (7000, "", {("train", "t-0"): 500})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (None, "the exporter: no answer"),
        ({"ok": False, "error": "its sample failed"}, "its sample failed"),
        ({"free_mib": None}, "its free memory is not measured"),
        ({"gpu": "1"}, "the exporter does not show it"),
    ],
)
def test_what_is_not_measured_is_unknown_and_says_why(fields: dict[str, Any] | None, words: str) -> None:
    clock = FakeClock()
    exporters = Exporters(clock)
    exporters.fields = fields
    (card,) = measured(exporters, clock).facts()["desk"]
    assert (card.free_mib, card.problem) == (None, words)


@pytest.mark.parametrize("seconds", [-11, 11])
def test_a_sample_of_another_time_is_no_proof(seconds: float) -> None:
    clock = FakeClock()
    exporters = Exporters(clock)
    exporters.fields = {"sampled_at": clock.now_at() + timedelta(seconds=seconds)}
    (card,) = measured(exporters, clock).facts()["desk"]
    assert (card.free_mib, card.problem) == (None, "its sample is 11 s away from now")


def test_a_look_that_is_too_old_is_no_proof() -> None:
    clock = FakeClock()
    cards = measured(Exporters(clock), clock)
    clock.advance(STALE_AFTER_SECONDS)
    assert cards.facts()["desk"][0].free_mib == 7000
    clock.advance(0.6)
    assert (cards.facts()["desk"][0].free_mib, cards.facts()["desk"][0].problem) == (None, "the last look is 11 s old")


def test_what_becomes_unknown_and_known_again_is_said_once() -> None:
    clock, log = FakeClock(), FakeLog()
    exporters = Exporters(clock)
    cards = LeaseCards(exporters, (node_rule(),), clock, log)
    turns: list[dict[str, Any] | None] = [{}, None, None, {}]
    for fields in turns:
        exporters.fields = fields
        cards.look()
    assert [event for _, event, _ in log.lines] == ["lease_cards_unknown", "lease_cards_measured"]
