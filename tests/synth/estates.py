"""Estates for the synth tests: the shipped ones, and the example with lines changed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from helpers.domain.estate.model import Estate
from helpers.rendering.estate_file import load_estate, parse_estate

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLE = PROJECT / "gpumem.yaml"
SHIPPED = [EXAMPLE, *sorted((PROJECT / "estates").glob("*.yaml"))]


@cache
def shipped(path: Path) -> Estate:
    return load_estate(path)[0]


def example(**replaced: str) -> Estate:
    """gpumem.yaml with each key's text replaced once by its value; a text that is not there is a fault."""
    text = EXAMPLE.read_text()
    for old, new in replaced.items():
        assert text.count(old) >= 1, f"gpumem.yaml does not hold {old!r}"
        text = text.replace(old, new, 1)
    return parse_estate(text, "gpumem.yaml")[0]


def example_on_webhook(certificates: str = "self") -> Estate:
    """The example on a Kubernetes whose API server cannot run the rules of admission itself."""
    return example(**{'version: "1.36"': 'version: "1.34"', "certificates: self": f"certificates: {certificates}"})


def on_claims(backend: str = "dra") -> Estate:
    """The Talos estate with its budgets as claims; everything else as it is."""
    text = (PROJECT / "estates/talos-2x3090.yaml").read_text()
    assert text.count("\nnodes:") == 1
    text = text.replace("\nnodes:", f"\nbudget: {{backend: {backend}}}\nnodes:")
    return parse_estate(text, "talos-2x3090.yaml")[0]


def on_both_backends() -> Estate:
    """The Talos estate with its budgets as claims, and beside its nodes an older kind that counts by the number."""
    old = """
  - name: old-node
    selector: {kind: old}
    gpus: [{model: Tesla T4, count: 1, physical_mib: 15360, reserve_mib: 1360}]
    sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 8}]}}
    budget: {backend: extendedResource}
"""
    text = (PROJECT / "estates/talos-2x3090.yaml").read_text()
    text = text.replace("\nnodes:", f"\nbudget: {{backend: dra}}\nnodes:{old.rstrip()}")
    return parse_estate(text, "talos-2x3090.yaml")[0]
