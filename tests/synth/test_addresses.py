"""Construct ids are state addresses: a change here recreates objects, so it is a decision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from helpers.domain.estate.model import Estate
from tests.synth.conftest import Stacks
from tests.synth.estates import PROJECT, shipped

SNAPSHOT = Path(__file__).with_name("addresses.txt")
DESK_SNAPSHOT = Path(__file__).with_name("addresses-rtx2060super.txt")
POOLS_SNAPSHOT = Path(__file__).with_name("addresses-gpu-pools.txt")


def held(stacks: Stacks, snapshot: Path) -> None:
    found = sorted(f"{stack} {address}" for stack in stacks.documents for address, _ in stacks.resources(stack))
    assert found == snapshot.read_text().split("\n")[:-1], (
        "an address changed: Terraform would destroy and create again. If that is meant, update "
        f"{snapshot.name} and say so in the commit."
    )


def test_the_addresses_of_the_example_are_those_of_the_snapshot(example_stacks: Stacks) -> None:
    held(example_stacks, SNAPSHOT)


def test_the_addresses_of_the_estate_with_all_three_stacks_are_those_of_the_snapshot(
    synth: Callable[[Estate], Stacks],
) -> None:
    held(synth(shipped(PROJECT / "estates/rtx2060super.yaml")), DESK_SNAPSHOT)


def test_the_addresses_of_the_estate_with_jobs_are_those_of_the_snapshot(synth: Callable[[Estate], Stacks]) -> None:
    held(synth(shipped(PROJECT / "estates/gpu-pools.yaml")), POOLS_SNAPSHOT)


def test_terraform_sees_the_id_itself_and_no_generated_suffix(example_stacks: Stacks) -> None:
    for stack in example_stacks.documents:
        for address, body in example_stacks.resources(stack):
            path: str = body["//"]["metadata"]["path"]
            assert path == f"{stack}/{address.split('.', 1)[1]}"
