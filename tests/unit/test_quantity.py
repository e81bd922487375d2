"""Quantities by notation: what is read, what is refused, and how it is spelled back."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.domain.errors import ExitCode, QuantityError
from helpers.domain.quantity import Quantity, canonical_count

# Written, amount, canonical: as the API server of Kubernetes 1.36 stores them
# (tests/lab/test_quantity_against_api_server.py compares thousands more with a running one).
NOTATIONS: list[tuple[str, int | Fraction, str]] = [
    # whole numbers
    ("0", 0, "0"),
    ("5000", 5000, "5k"),
    ("14000", 14000, "14k"),
    ("15360", 15360, "15360"),
    ("13300", 13300, "13300"),
    ("1000000", 10**6, "1M"),
    ("+7", 7, "7"),
    ("-7", -7, "-7"),
    ("007", 7, "7"),
    ("5.", 5, "5"),
    # decimal suffixes
    ("5k", 5000, "5k"),
    ("3.0k", 3000, "3k"),
    ("1500k", 1_500_000, "1500k"),
    ("2M", 2 * 10**6, "2M"),
    ("2G", 2 * 10**9, "2G"),
    ("2T", 2 * 10**12, "2T"),
    ("2P", 2 * 10**15, "2P"),
    ("1P", 10**15, "1P"),
    ("2E", 2 * 10**18, "2E"),
    # fractions
    ("0.5", Fraction(1, 2), "500m"),
    (".5", Fraction(1, 2), "500m"),
    ("100m", Fraction(1, 10), "100m"),
    ("1000m", 1, "1"),
    ("250u", Fraction(250, 10**6), "250u"),
    ("100n", Fraction(100, 10**9), "100n"),
    ("1500n", Fraction(1500, 10**9), "1500n"),
    ("1000000n", Fraction(1, 1000), "1m"),
    ("1.5k", 1500, "1500"),
    # binary suffixes
    ("1Ki", 1024, "1Ki"),
    ("16Gi", 16 * 1024**3, "16Gi"),
    ("1.5Gi", 3 * 1024**3 // 2, "1536Mi"),
    ("1024Mi", 1024**3, "1Gi"),
    ("0.5Ki", 512, "512"),
    ("1000Ki", 1_024_000, "1000Ki"),
    ("0.9765625Ki", 1000, "1k"),
    ("0Mi", 0, "0"),
    ("-1Mi", -(1024**2), "-1Mi"),
    ("0.001Ki", Fraction(1024, 1000), "1024m"),
    ("7Ei", 7 * 1024**6, "7Ei"),
    # exponents
    ("5e3", 5000, "5e3"),
    ("1E3", 1000, "1e3"),
    ("1e4", 10_000, "10e3"),
    ("12e-1", Fraction(12, 10), "1200e-3"),
    ("1e0", 1, "1"),
    ("0e5", 0, "0"),
    ("+1e+3", 1000, "1e3"),
]


@pytest.mark.parametrize(("written", "amount", "canonical"), NOTATIONS, ids=[written for written, *_ in NOTATIONS])
def test_a_quantity_is_read_exactly_and_spelled_canonically(
    written: str, amount: int | Fraction, canonical: str
) -> None:
    quantity = Quantity.parse(written)
    assert quantity.value == amount
    assert quantity.canonical() == canonical


NO_QUANTITIES = [
    "", " ", "5 ", " 5", " 5 ", "5\n", "\t5", "NaN", "nan", "Infinity", "inf", "-inf", "1_000", "1,000", "5K", "5KI",
    "5ki", "5mi", "5Mib", "5MiB", "5B", "5kk", "5Kii", "1e", "1e+", "e3", "k", "Mi", ".", "-", "+", "+-5", "--5", "5-",
    "0x10", "0b1", "0o7", "1.2.3", "1e3k", "1e3Mi", "1ke3", "1e1.5", "\u0663", "\uff15", "1\u0663", "5\u00b5",
    "5 k", "true", "None", "1/2",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_QUANTITIES, ids=repr)
def test_what_is_no_quantity_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(QuantityError, match="is not a Kubernetes quantity") as raised:
        Quantity.parse(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize("value", [True, False, 5, 5.0, None, b"5", ["5"], Fraction(5)], ids=repr)
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(QuantityError, match="not a quantity string"):
        Quantity.parse(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["0.1n", "0.0000000001", "1e-10", "0.0001Ki" + "1" * 12])
def test_what_the_server_would_round_is_refused(text: str) -> None:
    with pytest.raises(QuantityError):
        Quantity.parse(text)


@pytest.mark.parametrize("text", ["9223372036854775808", "10E", "8Ei", "1e19", "-10E", "1e9999", "1e-99999", "1e99999"])
def test_what_the_server_would_cap_is_refused(text: str) -> None:
    with pytest.raises(QuantityError):
        Quantity.parse(text)


def test_the_largest_amount_is_still_exact() -> None:
    assert Quantity.parse("9223372036854775807").canonical() == "9223372036854775807"


def test_a_bad_quantity_is_bad_input() -> None:
    assert QuantityError("x").exit_code == ExitCode.BAD_INPUT


def test_round_thousands_are_counts_like_any_other() -> None:
    # A reader that took "5k" for no number once dropped every tenant with a round budget.
    written = ("5k", "5e3", "5000", "4.5k")
    assert [Quantity.parse(text).as_count("pod a/b") for text in written] == [5000, 5000, 5000, 4500]


@pytest.mark.parametrize("text", ["500m", "0.5", "-1", "1n"])
def test_an_extended_resource_is_whole_and_not_negative(text: str) -> None:
    with pytest.raises(QuantityError, match=r"node t4-node capacity: .* not a whole number"):
        Quantity.parse(text).as_count("node t4-node capacity")


COUNTS = [(0, "0"), (1, "1"), (999, "999"), (1000, "1k"), (13300, "13300"), (48000, "48k")]


@pytest.mark.parametrize(("count", "text"), COUNTS)
def test_a_count_is_written_canonically(count: int, text: str) -> None:
    assert canonical_count(count) == text


@pytest.mark.parametrize("count", [True, False, -1, 1.0, "5", None], ids=repr)
def test_what_is_no_count_is_refused(count: object) -> None:
    with pytest.raises(QuantityError, match="is not a count"):
        canonical_count(count)  # type: ignore[arg-type]


WRITTEN = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "+", "-"]),
    st.one_of(
        st.integers(0, 10**12).map(str),
        st.decimals(0, 10**6, places=3).map("{:f}".format),
        st.integers(0, 10**4).map(".{}".format),
    ),
    st.sampled_from(["", *"numkMGT", "Ki", "Mi", "Gi", "e0", "e3", "E2", "e-3", "e5"]),
)


@given(WRITTEN)
def test_canonical_keeps_the_amount_and_is_its_own_canonical(written: str) -> None:
    try:
        quantity = Quantity.parse(written)
    except QuantityError:
        return  # finer than a billionth or beyond 63 bits: refused, never changed
    again = Quantity.parse(quantity.canonical())
    assert again.value == quantity.value
    assert again.canonical() == quantity.canonical()


@given(st.integers(0, 2**63 - 1))
def test_every_count_survives_the_round_trip(count: int) -> None:
    assert Quantity.parse(canonical_count(count)).as_count("x") == count


@given(st.text(max_size=8))
def test_any_text_is_read_exactly_or_refused(text: str) -> None:
    try:
        quantity = Quantity.parse(text)
    except QuantityError:
        return
    assert text.isascii()
    assert not any(character.isspace() or character == "_" for character in text)
    assert Quantity.parse(quantity.canonical()).value == quantity.value
