"""Kubernetes quantities: parsed strictly, held exactly, written canonically.

Grammar and canonical form follow `k8s.io/apimachinery/pkg/api/resource` (quantity.go, amount.go,
suffix.go at v0.36). The deviations are all towards strictness: where the API server rounds (finer
than nano), caps (2^63 - 1), trims blanks or reads a lone suffix as 0, this raises, because a budget
that changes in silence is the fault this module exists to prevent.

The API server stores the canonical form (some other spellings it takes for canonical and leaves
alone); writing any other makes Terraform see drift for ever (ADR 0002), so nothing but this module
turns a number into a quantity string. Lists of resources (limits, requests, capacity, quotas) it
rounds up to thousandths as well, so the estate's checks refuse finer amounts there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from helpers.domain.errors import QuantityError

Notation = Literal["BinarySI", "DecimalSI", "DecimalExponent"]

_DECIMAL_EXPONENT_OF = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX_OF = {exponent: suffix for suffix, exponent in _DECIMAL_EXPONENT_OF.items()}
_BINARY_SUFFIXES = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_GRAMMAR = re.compile(
    r"(?P<sign>[+-]?)(?P<number>[0-9]+\.?[0-9]*|\.[0-9]+)"
    r"(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[+-]?[0-9]+))?"
)
_MAX_VALUE = 2**63 - 1
_NANO = Fraction(1, 10**9)
# Longer exponents cannot be in range; refusing them early keeps 10**exponent small.
_MAX_EXPONENT_DIGITS = 4


@dataclass(frozen=True)
class Quantity:
    """An exact amount and the notation it was written in.

    Two quantities are the same amount when their `value` is equal; the notation only decides how
    the amount is spelled.
    """

    value: Fraction
    notation: Notation = "DecimalSI"

    @classmethod
    def parse(cls, text: str) -> Quantity:
        """Read `text` by the full grammar.

        Raises:
            QuantityError: not a string, not of the grammar, finer than a billionth, or beyond
                what 63 bits hold.
        """
        if not isinstance(text, str):
            raise QuantityError(f"{text!r} is a {type(text).__name__}, not a quantity string")
        match = _GRAMMAR.fullmatch(text)
        if match is None:
            raise QuantityError(
                f"{text!r} is not a Kubernetes quantity: a decimal number with one of "
                "n u m k M G T P E, Ki Mi Gi Ti Pi Ei, or an exponent such as e3"
            )
        notation, factor = _scale(text, match["suffix"] or "", match["exponent"])
        value = Fraction(match["number"].rstrip(".") or "0") * factor
        value = -value if match["sign"] == "-" else value
        if (value / _NANO).denominator != 1:
            raise QuantityError(f"{text!r} is finer than a billionth; the API server would round it")
        if abs(value) > _MAX_VALUE:
            raise QuantityError(f"{text!r} is beyond 2^63 - 1; the API server would cap it")
        return cls(value, notation)

    @classmethod
    def of_count(cls, count: int) -> Quantity:
        """The amount `count` (whole units, for an extended resource: MiB)."""
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise QuantityError(f"{count!r} is not a count: a whole number, 0 or more")
        return cls(Fraction(count))

    def as_count(self, subject: str) -> int:
        """The amount as a whole number of units, as extended resources must be.

        `subject` names object and field for the message (`node t4-node capacity`).
        """
        if self.value.denominator != 1 or self.value < 0:
            raise QuantityError(
                f"{subject}: {self.canonical()} is not a whole number of units, 0 or more, "
                "which an extended resource must be"
            )
        return self.value.numerator

    def canonical(self) -> str:
        """The spelling that the API server stores for this amount and notation."""
        if self.value == 0:
            return "0"
        if self.notation == "BinarySI" and self.value.denominator == 1 and abs(self.value) >= 1024:
            return _canonical_binary(self.value.numerator)
        return _canonical_decimal(self.value, self.notation)


def canonical_count(count: int) -> str:
    """`5000` → `5k`, `15360` → `15360`: what to write for an extended resource."""
    return Quantity.of_count(count).canonical()


def _scale(text: str, suffix: str, exponent: str | None) -> tuple[Notation, Fraction]:
    if exponent is not None:
        if len(exponent.lstrip("+-")) > _MAX_EXPONENT_DIGITS:
            raise QuantityError(f"{text!r} has an exponent no quantity can hold")
        return "DecimalExponent", Fraction(10) ** int(exponent)
    if suffix.endswith("i"):
        return "BinarySI", Fraction(1024 ** _BINARY_SUFFIXES.index(suffix))
    return "DecimalSI", Fraction(10) ** _DECIMAL_EXPONENT_OF[suffix]


def _canonical_binary(amount: int) -> str:
    power = 0
    while amount % 1024 == 0 and power < len(_BINARY_SUFFIXES) - 1:
        amount //= 1024
        power += 1
    return f"{amount}{_BINARY_SUFFIXES[power]}"


def _canonical_decimal(value: Fraction, notation: Notation) -> str:
    exponent = -9
    amount = (value / _NANO).numerator
    while amount % 1000 == 0:
        amount //= 1000
        exponent += 3
    if notation == "DecimalExponent":
        return f"{amount}e{exponent}" if exponent else str(amount)
    # Notation BinarySI falls through to here below 1024 and for fractions, as upstream does.
    return f"{amount}{_DECIMAL_SUFFIX_OF[exponent]}"
