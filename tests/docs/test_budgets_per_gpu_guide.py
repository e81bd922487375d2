"""The guide on budgets per GPU, held against the code: its example, its numbers, its commands and its messages."""

from __future__ import annotations

import re

import click
import pytest
import yaml

from helpers.apps.cli.migrate_commands import migrate
from helpers.domain.dra.claims import claim_template_name
from helpers.domain.dra.holds import hold_name
from helpers.domain.dra.migration import OldPod
from helpers.domain.dra.naming import DEVICE_CLASS
from helpers.domain.dra.replay import Ask, CardRoom, replay
from helpers.domain.dra.rights import DRA_AGENT_COMPONENT
from helpers.domain.estate.budget_backend import FIRST_MINOR_WITH_SHARED_DEVICES, Budgets
from helpers.domain.names import budget_annotation
from tests.synth.estates import PROJECT, on_claims

GUIDE = (PROJECT / "docs/guides/budgets-per-gpu.md").read_text()
FLAT = " ".join(GUIDE.split())
CARDS = (CardRoom("gpu-0", 24000), CardRoom("gpu-1", 24000))


def test_the_example_is_the_estates_own_spelling() -> None:
    (example,) = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.+?)^```$", GUIDE, re.MULTILINE | re.DOTALL)]
    assert Budgets.model_validate(example["budget"]).backend == "dra"
    assert example["kubernetes"]["version"] == f"1.{FIRST_MINOR_WITH_SHARED_DEVICES}"


def test_the_names_are_those_that_are_rendered() -> None:
    estate = on_claims()
    assert claim_template_name(estate, estate.tenants[0]) == "gpumem-ollama-16000"
    old = OldPod("ai", "x", "…", "n", 1)
    for name in (
        "gpumem-ollama-16000",
        DEVICE_CLASS,
        DRA_AGENT_COMPONENT,
        budget_annotation("gpumem.io"),
        hold_name(old),
    ):
        assert f"`{name}`" in GUIDE, name


def test_three_do_not_fit_on_two_cards() -> None:
    assert "3 x 16000 fit into 48000" in FLAT
    assert list(replay(CARDS, [Ask(name, 16000) for name in "abc"]).values()).count(None) == 1


def test_the_order_matters_as_the_guide_says() -> None:
    said = re.search(r"so the order matters: ([0-9, ]+) on two cards of 24000 leave the last one Pending", FLAT)
    assert said is not None
    asks = [Ask(str(index), int(mib)) for index, mib in enumerate(said[1].split(","))]
    assert [name for name, card in replay(CARDS, asks).items() if card is None] == [asks[-1].name]
    assert None not in replay(CARDS, sorted(asks, key=lambda ask: -ask.budget_mib)).values()


@pytest.mark.parametrize("line", re.findall(r"^gpumem migrate ([^#\n]+)", GUIDE, re.MULTILINE))
def test_the_commands_parse(line: str) -> None:
    with migrate.make_context("migrate", line.split()) as context:
        assert isinstance(context, click.Context)
        assert context.params["kinds"] == ("gpu-worker",)
