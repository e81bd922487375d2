"""Budgets as claims: the same objects in Terraform and as plain YAML, under addresses that stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from helpers.domain.estate.model import Estate
from helpers.rendering.render import render
from tests.synth.conftest import Stacks
from tests.synth.estates import on_claims
from tests.synth.test_addresses import held

SNAPSHOT = Path(__file__).with_name("addresses-talos-2x3090-claims.txt")


def test_the_addresses_of_an_estate_with_claims_are_those_of_the_snapshot(synth: Callable[[Estate], Stacks]) -> None:
    held(synth(on_claims()), SNAPSHOT)


def test_terraform_holds_what_is_rendered(synth: Callable[[Estate], Stacks]) -> None:
    rendered, stacks = render(on_claims()), synth(on_claims())
    for stack, wave in (("nvidia", 0), ("consumers", 1)):
        found = {address.split(".", 1)[1]: manifest for address, manifest in stacks.manifests(stack).items()}
        assert found == {item.address: item.manifest for item in rendered.wave(wave).objects}


def test_a_template_stands_before_the_workload_that_names_it(synth: Callable[[Estate], Stacks]) -> None:
    before = synth(on_claims()).depends_on("consumers")
    assert "kubectl_manifest.claim-template-ollama" in before["kubectl_manifest.tenant-ollama"]
    assert "kubectl_manifest.claim-template-comfyui" in before["null_resource.budget-comfyui"]
    assert "null_resource.gate" in before["kubectl_manifest.claim-template-comfyui"]
