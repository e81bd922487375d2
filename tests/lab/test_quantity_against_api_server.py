"""`Quantity` against the API server's own parser: thousands of spellings, compared text by text.

A dry-run ResourceQuota is the probe: `spec.hard` takes any number of keys, any amount that is not
negative, and comes back as the server would store it. Like every list of resources (limits,
requests, capacity) it is rounded up to thousandths; amounts finer than that are a test of their own.

The server keeps a text as it is where a rule of thumb calls it canonical (quantity.go, "reuse the
string": `1E3` and `05` stay). Zeros at the end of a fraction never pass for that, so with them the
server shows its own canonical form.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress

import pytest
from kubernetes import client

from helpers.domain.errors import QuantityError
from helpers.domain.quantity import Quantity
from tests.unit.test_quantity import NOTATIONS

pytestmark = pytest.mark.lab

SEED = 20261122
QUANTITIES_COUNT = 4000
BATCH_COUNT = 400
SUFFIXES = ["", "", "", *"numkMGTPE", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]


def stored_by_server(kube: client.ApiClient, written: list[str]) -> list[str]:
    keys = [f"requests.example.com/q{index}" for index in range(len(written))]
    quota = {"metadata": {"name": "probe"}, "spec": {"hard": dict(zip(keys, written, strict=True))}}
    stored = client.CoreV1Api(kube).create_namespaced_resource_quota("default", quota, dry_run="All").spec.hard
    assert sorted(stored) == sorted(keys)
    return [stored[key] for key in keys]


def written_quantity(chance: random.Random, fraction_end: str) -> str:
    whole = str(chance.randrange(10 ** chance.randrange(1, 16)))
    if chance.random() < 0.3:
        whole += "0" * chance.randrange(1, 7)
    if chance.random() < 0.1:
        whole = "0" * chance.randrange(1, 3) + whole
    fraction = "".join(chance.choice("0000123456789") for _ in range(chance.randrange(5))) + fraction_end
    number = chance.choice([whole, whole, f"{whole}.{fraction}", f".{fraction or '0'}"])
    if fraction_end and "." not in number:
        number += f".{fraction_end}"
    exponent = f"{chance.choice('eE')}{chance.choice(['', '+', '-'])}{chance.randrange(10)}"
    sign = "+" if chance.random() < 0.05 else ""
    return sign + number + (exponent if chance.random() < 0.25 else chance.choice(SUFFIXES))


def batches(seed: int, fraction_end: str = "") -> Iterator[list[str]]:
    """Spellings; what we refuse, and what is finer than a thousandth, is left out."""
    chance = random.Random(seed)  # noqa: S311 - a reproducible sample, no secret
    for _ in range(QUANTITIES_COUNT // BATCH_COUNT):
        batch: list[str] = []
        while len(batch) < BATCH_COUNT:
            written = written_quantity(chance, fraction_end)
            with suppress(QuantityError):
                if (Quantity.parse(written).value * 1000).denominator == 1:
                    batch.append(written)
        yield batch


def test_our_canonical_form_is_the_servers(kube: client.ApiClient) -> None:
    for batch in batches(SEED, fraction_end="000"):
        stored = stored_by_server(kube, batch)
        differing = [
            f"{written!r}: ours {Quantity.parse(written).canonical()!r}, the server's {theirs!r}"
            for written, theirs in zip(batch, stored, strict=True)
            if Quantity.parse(written).canonical() != theirs
        ]
        assert not differing, f"seed {SEED}: {len(differing)} of {BATCH_COUNT} differ, such as {differing[:10]}"


def test_any_spelling_is_stored_in_our_canonical_form_or_left_alone(kube: client.ApiClient) -> None:
    canonical_count = 0
    for batch in batches(SEED + 1):
        for written, theirs in zip(batch, stored_by_server(kube, batch), strict=True):
            ours = Quantity.parse(written)
            assert theirs in (ours.canonical(), written), f"seed {SEED + 1}: {written!r}"
            assert Quantity.parse(theirs).value == ours.value, f"seed {SEED + 1}: {written!r}"
            canonical_count += theirs == ours.canonical()
    assert canonical_count > QUANTITIES_COUNT / 2


def test_the_server_leaves_our_canonical_form_alone(kube: client.ApiClient) -> None:
    for batch in batches(SEED + 2):
        canonical = [Quantity.parse(written).canonical() for written in batch]
        assert stored_by_server(kube, canonical) == canonical, f"seed {SEED + 2}"


def test_the_notations_of_the_unit_test_are_the_servers(kube: client.ApiClient) -> None:
    known = [(written, canonical) for written, amount, canonical in NOTATIONS if amount >= 0 and amount * 1000 % 1 == 0]
    for (written, canonical), theirs in zip(known, stored_by_server(kube, [row[0] for row in known]), strict=True):
        assert theirs in (canonical, written)
    assert len(known) > 30


REFUSED_BY_BOTH = [
    "NaN", "Infinity", "-inf", "1_000", "1,000", "5K", "5ki", "5MiB", "5kk", "1e", "1e+", "+-5", "5-",
    "0x10", "1.2.3", "1e3k", "1ke3", "1e1.5", "\u0663", "\uff15", "5\u00b5", "5 k", "true",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED_BY_BOTH, ids=ascii)
def test_what_we_refuse_for_its_grammar_the_server_refuses_too(kube: client.ApiClient, text: str) -> None:
    with pytest.raises(QuantityError, match="is not a Kubernetes quantity"):
        Quantity.parse(text)
    with pytest.raises(client.ApiException) as refused:
        stored_by_server(kube, [text])
    assert refused.value.status in (400, 422)


CHANGED_IN_SILENCE = [(" 5 ", "5"), ("k", "0"), (".", "0"), ("-", "0"), ("e3", "0"), ("0.1n", "1m"), ("1e-10", "1e-3")]


@pytest.mark.parametrize(("written", "stored"), CHANGED_IN_SILENCE)
def test_what_the_server_changes_in_silence_we_refuse(kube: client.ApiClient, written: str, stored: str) -> None:
    assert stored_by_server(kube, [written]) == [stored]
    with pytest.raises(QuantityError):
        Quantity.parse(written)


@pytest.mark.parametrize(("written", "stored"), [("100n", "1m"), ("1500u", "2m"), ("0.0001", "1m"), ("1e-4", "1e-3")])
def test_a_list_of_resources_is_rounded_up_to_thousandths(kube: client.ApiClient, written: str, stored: str) -> None:
    """Why an estate's pod may not ask for less than a thousandth of anything."""
    assert stored_by_server(kube, [written]) == [stored]
    assert Quantity.parse(written).canonical() != stored
