"""The dashboard's structure: by Grafana's own schema, and by what makes a dashboard readable."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from helpers.domain.estate.monitoring import Monitoring
from helpers.domain.watchdog.settings import watchdog_settings
from helpers.rendering.dashboard import dashboard
from tests.synth.estates import example


def model(**replaced: str) -> dict[str, Any]:
    estate = example(**replaced)
    return dashboard(estate, watchdog_settings(estate), Monitoring(runbook_base_url="https://wiki.example.com/r"))


MODEL = model()
PANELS = [panel for panel in MODEL["panels"] if panel["type"] != "row"]
TARGETS = [(panel, target) for panel in PANELS for target in panel["targets"]]


def lost(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Paths of what Grafana's typed model does not know, or reads as something else."""
    if isinstance(ours, dict):
        if not isinstance(theirs, dict):
            return [path]
        return [one for key, value in ours.items() for one in lost(value, theirs.get(key), f"{path}.{key}")]
    if isinstance(ours, list):
        if not isinstance(theirs, list) or len(ours) != len(theirs):
            return [path]
        return [
            one
            for number, (mine, other) in enumerate(zip(ours, theirs, strict=True))
            for one in lost(mine, other, f"{path}[{number}]")
        ]
    return [] if ours == theirs else [path]


def read_by_grafana(document: dict[str, Any]) -> dict[str, Any]:
    """`document` through Grafana's generated types and back."""
    text = json.dumps(document)
    typed: dict[str, Any] = json.loads(JSONEncoder().encode(Dashboard.from_json(json.loads(text))))
    return typed


def test_grafanas_typed_model_keeps_everything() -> None:
    # The Prometheus plugin's own keys of an annotation, which the core model leaves to plugins.
    plugins = {f".annotations.list[0].{key}" for key in ("titleFormat", "textFormat", "tagKeys")}
    assert set(lost(MODEL, read_by_grafana(MODEL))) == plugins


def test_a_misspelt_key_would_be_seen() -> None:
    """Negative control of the one above."""
    wrong = json.loads(json.dumps(MODEL))
    wrong["panels"][1]["gridPoss"] = wrong["panels"][1].pop("gridPos")
    wrong["time_zone"] = "browser"
    assert set(lost(wrong, read_by_grafana(wrong))) >= {".time_zone"}


def test_the_same_estate_gives_the_same_text() -> None:
    assert json.dumps(model()) == json.dumps(MODEL)
    assert json.dumps(model(**{"floor_mib: 1536": "floor_mib: 900"})) != json.dumps(MODEL)


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in MODEL["panels"]]
    assert ids == sorted(set(ids))
    for one, other in combinations([panel["gridPos"] for panel in MODEL["panels"]], 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in MODEL["panels"])


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_a_panel_names_its_unit_source_and_subject(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}", "never a source of one Grafana"
    references = [target["refId"] for target in panel["targets"]]
    assert len(references) == len(set(references)) > 0
    assert all(target["expr"].strip() for target in panel["targets"])


def test_every_variable_that_is_used_is_defined_and_the_other_way_round() -> None:
    defined = {variable["name"] for variable in MODEL["templating"]["list"]}
    text = json.dumps(MODEL["panels"]) + json.dumps([variable["query"] for variable in _variables()])
    assert {name for name in defined if f"${name}" in text or f"${{{name}}}" in text} == defined
    row = next(panel for panel in MODEL["panels"] if panel.get("repeat"))
    assert row["repeat"] in defined


def _variables() -> list[dict[str, Any]]:
    variables: list[dict[str, Any]] = MODEL["templating"]["list"]
    return variables


def test_lines_over_the_stack_belong_to_queries_that_are_there() -> None:
    (stacked,) = [panel for panel in PANELS if panel["title"] == "Memory by tenant"]
    legends = {target["legendFormat"] for target in stacked["targets"]}
    assert {override["matcher"]["options"] for override in stacked["fieldConfig"]["overrides"]} <= legends
    unstacked = [
        override["matcher"]["options"]
        for override in stacked["fieldConfig"]["overrides"]
        if {"id": "custom.stacking", "value": {"mode": "none"}} in override["properties"]
    ]
    assert unstacked == ["budgets", "advertised", "physical", "pressure above"]


def test_the_floor_in_it_is_the_watchdogs() -> None:
    text = json.dumps(model(**{"floor_mib: 1536": "floor_mib: 901"}))
    assert "901" in text
    assert "1536" not in text


def test_it_links_to_the_runbooks() -> None:
    assert MODEL["links"][0]["url"] == "https://wiki.example.com/r"
