"""Synthesised stacks, each estate once a session: a synth takes about half a second."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.domain.estate.model import Estate
from helpers.rendering.render import render
from stacks.app import synthesize
from tests.synth.estates import EXAMPLE, shipped


class Stacks:
    """The synthesised documents of an estate."""

    def __init__(self, outdir: Path) -> None:
        self.outdir = outdir
        self.documents: dict[str, dict[str, Any]] = {
            file.parent.name: json.loads(file.read_text()) for file in sorted(outdir.glob("stacks/*/cdk.tf.json"))
        }

    def resources(self, stack: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for of_type, members in self.documents[stack]["resource"].items():
            for name, body in members.items():
                yield f"{of_type}.{name}", body

    def depends_on(self, stack: str) -> dict[str, set[str]]:
        """`{address: every address that comes before it}`, transitively."""
        direct = {address: set(body.get("depends_on", ())) for address, body in self.resources(stack)}

        def before(address: str) -> set[str]:
            found: set[str] = set()
            for other in direct[address]:
                found |= {other} | before(other)
            return found

        return {address: before(address) for address in direct}

    def manifests(self, stack: str) -> dict[str, Mapping[str, Any]]:
        """`{address: object}` as Terraform would hand them to the provider."""
        found = {}
        for address, body in self.resources(stack):
            if "yaml_body" in body:
                found[address] = yaml.safe_load(body["yaml_body"].replace("$${", "${").replace("%%{", "%{"))
        return found


@pytest.fixture(scope="session")
def synth(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Estate], Stacks]:
    done: dict[str, Stacks] = {}

    def run(estate: Estate) -> Stacks:
        key = estate.model_dump_json()
        if key not in done:
            outdir = tmp_path_factory.mktemp("synth")
            synthesize(estate, render(estate), EXAMPLE, outdir, program="gpumem")
            done[key] = Stacks(outdir)
        return done[key]

    return run


@pytest.fixture(scope="session")
def example_stacks(synth: Callable[[Estate], Stacks]) -> Stacks:
    return synth(shipped(EXAMPLE))
