"""An exporter's text as card samples. What is absent stays unknown, and doubles make all of it unknown."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from helpers.domain.memory import BYTES_PER_MIB, bytes_to_mib_rounded_up
from helpers.domain.telemetry import metric_names
from helpers.domain.telemetry.exposition import ExpositionError, parse_exposition
from helpers.domain.watchdog.facts import ContainerUse, GpuSample

# What the exporter says of its own sample, card by card.
UP = metric_names.SAMPLE_UP
ATTRIBUTED = metric_names.ATTRIBUTION_UP
SAMPLED_AT = metric_names.SAMPLE_TIMESTAMP

_HIGHEST = 2.0**62
_BARE = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_CARD_SERIES = frozenset(
    {
        metric_names.TOTAL,
        metric_names.USED,
        metric_names.FREE,
        metric_names.RESERVED,
        metric_names.UNATTRIBUTED,
        UP,
        ATTRIBUTED,
        SAMPLED_AT,
    }
)


@dataclass(frozen=True, slots=True)
class _Series:
    name: str
    labels: Mapping[str, str]


@dataclass
class _Card:
    """What one answer says of one card."""

    gpu: str
    uuid: str
    figures: dict[str, float] = field(default_factory=dict)
    uses: list[tuple[str, str, str, float]] = field(default_factory=list)


class SampleReader:
    """Reads the answers of one exporter.

    Its lines are the same from scrape to scrape but for their values, so the part before the value is
    parsed once and remembered as long as it comes again.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        self._known: dict[str, _Series | None] = {}

    def read(self, text: str, read_at: datetime) -> tuple[GpuSample, ...]:
        """One sample a card; one that failed is of `read_at` where the exporter gives it no instant.

        Raises:
            ExpositionError: a line is of another form, a series stands there twice, or lacks its card.
        """
        known: dict[str, _Series | None] = {}
        cards: dict[str, _Card] = {}
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            head, _, value_text = line.rpartition(" ")
            if head in self._known:
                series, value = self._known[head], None
            else:
                series, value, head = _parsed(line, head)
            if head in known:
                raise ExpositionError(f"{head!r} stands there twice")
            known[head] = series
            number = _number(value_text) if value is None else value
            if series is not None and not math.isnan(number):  # NaN is no figure: absent
                _put(cards, series, number)
        self._known = known
        return tuple(self._sample(card, read_at) for card in cards.values())

    def _sample(self, card: _Card, read_at: datetime) -> GpuSample:
        figures = card.figures
        sampled_at = _instant(figures.get(SAMPLED_AT))
        why = _why_not(card, sampled_at)
        return GpuSample(
            node=self._node,
            gpu=card.gpu,
            uuid=card.uuid,
            sampled_at=sampled_at or read_at,
            ok=not why,
            total_mib=_mib_down(figures.get(metric_names.TOTAL)),
            used_mib=_mib_up(figures.get(metric_names.USED)),
            # Rounded down, as used is rounded up: never more free than there is.
            free_mib=_mib_down(figures.get(metric_names.FREE)),
            reserved_mib=_mib_up(figures.get(metric_names.RESERVED)),
            pods=tuple(
                ContainerUse(namespace, pod, container, bytes_to_mib_rounded_up(int(used_bytes)))
                for namespace, pod, container, used_bytes in card.uses
            ),
            unattributed_mib=_mib_up(figures.get(metric_names.UNATTRIBUTED)),
            error=why,
        )


def _why_not(card: _Card, sampled_at: datetime | None) -> str:
    if card.figures.get(UP) != 1:
        return "the exporter says that its sample failed" if UP in card.figures else f"{UP} is absent"
    if card.figures.get(ATTRIBUTED) != 1:
        return "the exporter does not know whose the used memory is"
    if sampled_at is None:
        return f"{SAMPLED_AT} is absent or no instant"
    return ""


def _parsed(line: str, head: str) -> tuple[_Series | None, float, str]:
    rows = parse_exposition(line)
    if not rows:  # NaN is no figure
        return None, 0.0, line
    row = rows[0]
    series = _Series(row.name, row.labels) if row.name in _CARD_SERIES or row.name == metric_names.POD_USED else None
    # With a timestamp behind the value, the part before the last space is no head: not to be reused.
    reusable = head.endswith("}") or _BARE.fullmatch(head)
    return series, row.value, head if reusable else line


def _put(cards: dict[str, _Card], series: _Series, value: float) -> None:
    labels = series.labels
    uuid, gpu = labels.get("uuid", ""), labels.get("gpu", "")
    if not uuid:
        raise ExpositionError(f"{series.name} has no uuid")
    card = cards.setdefault(uuid, _Card(gpu, uuid))
    if abs(value) > _HIGHEST or card.gpu != gpu:
        raise ExpositionError(f"{series.name} of {uuid}: {value} on gpu {gpu!r} and {card.gpu!r} cannot be")
    if series.name == metric_names.POD_USED:
        card.uses.append((labels.get("namespace", ""), labels.get("pod", ""), labels.get("container", ""), value))
    elif series.name in card.figures:
        raise ExpositionError(f"{series.name} of {uuid} stands there twice")
    else:
        card.figures[series.name] = value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ExpositionError(f"{text!r} is no value") from error


def _instant(seconds: float | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _mib_up(size_bytes: float | None) -> int | None:
    return None if size_bytes is None else bytes_to_mib_rounded_up(int(size_bytes))


def _mib_down(size_bytes: float | None) -> int | None:
    return None if size_bytes is None else int(size_bytes) // BYTES_PER_MIB
