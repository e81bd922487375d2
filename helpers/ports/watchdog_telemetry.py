"""Exporters as the watchdog sees them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from helpers.domain.watchdog.facts import GpuSample


@dataclass(frozen=True, order=True)
class ExporterTarget:
    """One exporter: the node whose cards it reads, and the URL of its metrics, by address."""

    node: str
    url: str


@dataclass(frozen=True)
class Scrape:
    """One exporter's answer.

    `samples` None: it gave none, and `problem` says why. `lied` tells the two kinds of that apart: an
    answer that contradicts itself or its format (True) is news about its cards, silence (False) is not.
    """

    target: ExporterTarget
    samples: tuple[GpuSample, ...] | None
    problem: str = ""
    lied: bool = False


class Exporters(Protocol):
    """Reads exporters, several at a time, and never takes longer than its own deadline."""

    def scrape(self, targets: Iterable[ExporterTarget]) -> tuple[Scrape, ...]:
        """One Scrape a target, in any order; nothing is raised for one that does not answer."""
        ...

    def forget(self, targets: Iterable[ExporterTarget]) -> None:
        """These are gone for good: whatever is kept for them is let go."""
        ...
