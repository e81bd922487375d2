"""Construct ids are state addresses: a change here recreates objects, so it is a decision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.domain.estate.model import Estate
from tests.synth.conftest import Stacks
from tests.synth.estates import EXAMPLE, PROJECT, shipped

# The example has no jobs; what they stand on is a stack of the third estate's.
SNAPSHOTS = {
    "addresses.txt": (EXAMPLE, ("nvidia", "consumers")),
    "addresses-gpu-pools.txt": (PROJECT / "estates" / "gpu-pools.yaml", ("platform",)),
}


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_the_addresses_are_those_of_the_snapshot(name: str, synth: Callable[[Estate], Stacks]) -> None:
    path, names = SNAPSHOTS[name]
    stacks = synth(shipped(path))
    found = sorted(f"{stack} {address}" for stack in names for address, _ in stacks.resources(stack))
    assert found == Path(__file__).with_name(name).read_text().split("\n")[:-1], (
        "an address changed: Terraform would destroy and create again. If that is meant, update "
        f"{name} and say so in the commit."
    )


def test_the_example_has_no_stack_without_a_snapshot(example_stacks: Stacks) -> None:
    assert set(example_stacks.documents) == {"nvidia", "consumers"}


def test_terraform_sees_the_id_itself_and_no_generated_suffix(example_stacks: Stacks) -> None:
    for stack in example_stacks.documents:
        for address, body in example_stacks.resources(stack):
            path: str = body["//"]["metadata"]["path"]
            assert path == f"{stack}/{address.split('.', 1)[1]}"
