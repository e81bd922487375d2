"""Prometheus' text format, version 0.0.4: metric families to text, and text to rows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from helpers.domain.errors import InputError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TEXT = r'"(?:[^"\\]|\\.)*"'
_SAMPLE = re.compile(
    rf"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{(?P<labels>(?:\s*[a-zA-Z_]\w*\s*=\s*{_TEXT}\s*,?)*)\s*\}})?"
    r"\s+(?P<value>\S+)(?:\s+-?\d+)?"
)
_LABEL = re.compile(r'(?P<key>[a-zA-Z_]\w*)\s*=\s*"(?P<text>(?:[^"\\]|\\.)*)"')


@dataclass
class Family:
    """One metric: its rows are `(labels, value)`. A family without rows is left out: absent is never zero."""

    name: str
    help: str
    type: Literal["gauge", "counter"] = "gauge"
    rows: list[tuple[Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float | None, /, **labels: str) -> None:
        """One row; nothing where the value is unknown."""
        if value is not None:
            self.rows.append((labels, value))


def exposition(families: Iterable[Family]) -> str:
    """The text that a scrape gets."""
    lines = []
    for family in families:
        if not family.rows:
            continue
        lines.append(f"# HELP {family.name} {_escaped(family.help)}")
        lines.append(f"# TYPE {family.name} {family.type}")
        for labels, value in family.rows:
            pairs = ",".join(f'{key}="{_quoted(text)}"' for key, text in labels.items())
            lines.append(f"{family.name}{{{pairs}}} {_number(value)}" if pairs else f"{family.name} {_number(value)}")
    return "\n".join(lines) + "\n" if lines else ""


def _number(value: float) -> str:
    # Whole bytes stay whole digits: an exponent would lose some of them.
    return str(value) if isinstance(value, int) else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')


class ExpositionError(InputError):
    """Text that is not Prometheus' format; the message names the line."""


@dataclass(frozen=True)
class Row:
    """One sample line of a scraped text."""

    name: str
    labels: Mapping[str, str]
    value: float


def parse_exposition(text: str) -> list[Row]:
    """The sample lines of `text`; timestamps are dropped, NaN is left out because it is no figure.

    Raises:
        ExpositionError: A line is of another form.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _SAMPLE.fullmatch(line.strip())
        if match is None:
            raise ExpositionError(f"line {number} is no metric: {line[:80]!r}")
        labels = {found["key"]: _unquoted(found["text"]) for found in _LABEL.finditer(match["labels"] or "")}
        value = _value(match["value"], number)
        if not math.isnan(value):
            rows.append(Row(match["name"], labels, value))
    return rows


def _value(text: str, number: int) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ExpositionError(f"line {number}: {text!r} is no value") from error


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text)
