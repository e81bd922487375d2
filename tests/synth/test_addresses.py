"""Construct ids are state addresses: a change here recreates objects, so it is a decision."""

from __future__ import annotations

from pathlib import Path

from tests.synth.conftest import Stacks

SNAPSHOT = Path(__file__).with_name("addresses.txt")


def test_the_addresses_of_the_example_are_those_of_the_snapshot(example_stacks: Stacks) -> None:
    found = sorted(
        f"{stack} {address}" for stack in example_stacks.documents for address, _ in example_stacks.resources(stack)
    )
    assert found == SNAPSHOT.read_text().split("\n")[:-1], (
        "an address changed: Terraform would destroy and create again. If that is meant, update "
        f"{SNAPSHOT.name} and say so in the commit."
    )


def test_terraform_sees_the_id_itself_and_no_generated_suffix(example_stacks: Stacks) -> None:
    for stack in example_stacks.documents:
        for address, body in example_stacks.resources(stack):
            path: str = body["//"]["metadata"]["path"]
            assert path == f"{stack}/{address.split('.', 1)[1]}"
