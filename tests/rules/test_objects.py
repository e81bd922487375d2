"""PrometheusRule and PodMonitors against the operator's own CRDs; the scrape configuration against promtool."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from helpers.domain.estate.monitoring import Monitoring
from helpers.rendering.monitoring import monitoring_objects, scrape_text
from lab.programs import Program
from tests.fixtures.go_modules import go_module
from tests.rules.promtool import Rules, promtool_run

# The module that carries the CRDs.
OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
FILES = {"PrometheusRule": "prometheusrules-crd.json", "PodMonitor": "podmonitors-crd.json"}


@pytest.fixture(scope="module")
def crds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go_module(OPERATOR, tmp_path_factory.mktemp("no-module")) / "jsonnet/prometheus-operator"


def strict(schema: Any) -> Any:
    """The schema with unknown keys refused: the API server would drop them in silence."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if isinstance(closed.get("properties"), Mapping) and "type" in closed:
        closed.setdefault("additionalProperties", False)
    if closed.pop("x-kubernetes-int-or-string", False):
        closed["type"] = ["integer", "string"]
        closed.pop("anyOf", None)
    return closed


def errors(crds: Path, manifest: Mapping[str, Any]) -> list[str]:
    crd = json.loads((crds / FILES[manifest["kind"]]).read_text())
    group, _, version = manifest["apiVersion"].partition("/")
    assert crd["spec"]["group"] == group
    (served,) = [one for one in crd["spec"]["versions"] if one["name"] == version and one["served"]]
    schema = strict(served["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # the API server's own, not the CRD's
    return [error.message for error in Draft202012Validator(schema).iter_errors(manifest)]


def manifests() -> list[dict[str, Any]]:
    rules = Rules.of_example(prometheus_operator=True)
    objects = monitoring_objects(rules.estate, rules.settings, rules.monitoring)
    return [json.loads(json.dumps(one.manifest)) for one in objects if one.kind in FILES]


def test_the_operators_objects_are_what_its_crds_describe(crds: Path) -> None:
    found = manifests()
    assert sorted({manifest["kind"] for manifest in found}) == ["PodMonitor", "PrometheusRule"]
    for manifest in found:
        assert errors(crds, manifest) == [], manifest["metadata"]["name"]


def test_a_misspelt_key_would_be_seen(crds: Path) -> None:
    """Negative control of the one above."""
    for manifest in manifests():
        if manifest["kind"] == "PrometheusRule":
            manifest["spec"]["groups"][0]["rules"][0]["keepFiringFor"] = "1h"
        else:
            manifest["spec"]["podMetricsEndpoints"][0]["honor_labels"] = True
        assert len(errors(crds, manifest)) == 1


def test_promtool_accepts_rules_and_scrape_configuration_as_one_prometheus(promtool: Program, tmp_path: Path) -> None:
    """But for discovery: Debian's build leaves out Kubernetes, so its block is only looked at here."""
    rules = Rules.of_example()
    (tmp_path / "rules.yaml").write_text(rules.text())
    scrape = yaml.safe_load(scrape_text(rules.estate, Monitoring()))
    discovered = [config.pop("kubernetes_sd_configs") for config in scrape["scrape_configs"]]
    assert [one["role"] for (one,) in discovered] == ["pod", "pod", "pod"]
    assert [one["namespaces"] for (one,) in discovered] == [{"names": ["nvidia"]}] * 3
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], **scrape}))
    verdict = promtool_run(promtool, "check", "config", "prometheus.yaml", folder=tmp_path)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
