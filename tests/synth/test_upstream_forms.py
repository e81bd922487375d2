"""What is rendered for tools that are not here, held against those tools' own published forms.

They come as Go modules and are not copied into the project; what cannot be had is a skip with its reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from helpers.rendering.gpu_operator import gpu_operator_delivery, gpu_operator_values
from helpers.rendering.talos import talos_files
from tests.fixtures.go_modules import go_module
from tests.synth.estates import PROJECT, shipped

ESTATE = shipped(PROJECT / "estates/talos-2x3090.yaml")
TALOS = "github.com/siderolabs/talos/pkg/machinery@v1.13.0"
TALHELPER = "github.com/budimanjojo/talhelper/v3@v3.1.9"
# The newest that the module proxy has; the operator's own releases (v26.7.0) are no Go versions.
CHART = "github.com/NVIDIA/gpu-operator@v0.0.0-20250917190837-d73a0086a6ba"
# The chart has them since v25.10.0 and v26.3.0; they are rendered where exporter.source is dcgm.
YOUNGER_THAN_THE_CHART = {"dcgmExporter.hostPID", "dcgmExporter.hostNetwork"}
ARGOCD = "github.com/argoproj/argo-cd/v3@v3.4.0"


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("no-module")


@pytest.fixture(scope="module")
def machine_config(nowhere: Path) -> Draft202012Validator:
    """The v1alpha1 machine configuration; a patch is a part of it, and nothing in it is required."""
    text = (go_module(TALOS, nowhere) / "config/schemas/config.schema.json").read_text()
    schema = json.loads(text)
    return Draft202012Validator({"$ref": "#/$defs/v1alpha1.Config", "$defs": schema["$defs"]})


@pytest.fixture(scope="module")
def chart(nowhere: Path) -> Path:
    return go_module(CHART, nowhere) / "deployments/gpu-operator"


def patches() -> dict[str, Any]:
    return {item.name: yaml.safe_load(item.text) for item in talos_files(ESTATE) if item.name.startswith("patch-")}


def test_talos_takes_every_patch(machine_config: Draft202012Validator) -> None:
    assert set(patches()) == {"patch-gpu-worker.yaml", "patch-install-image.yaml"}
    for name, patch in patches().items():
        assert [error.message for error in machine_config.iter_errors(patch)] == [], name


@pytest.mark.parametrize(
    "wrong",
    [
        {"sysctls": {"net.core.bpf_jit_harden": 1}},  # as the extension's own page writes it
        {"kernel": {"modules": ["nvidia"]}},
        {"files": [{"path": "/etc/cri/conf.d/20-customization.part", "op": "create", "contents": ""}]},
        {"install": {"extensions": [{"image": "ghcr.io/siderolabs/nvidia-container-toolkit:v1"}]}},
    ],
)
def test_talos_would_refuse_another_spelling(machine_config: Draft202012Validator, wrong: dict[str, Any]) -> None:
    """Negative control of the one above."""
    assert list(machine_config.iter_errors({"machine": wrong}))


def test_talhelper_takes_its_file(nowhere: Path) -> None:
    schema = json.loads((go_module(TALHELPER, nowhere) / "pkg/config/schemas/talconfig.json").read_text())
    (text,) = [item.text for item in talos_files(ESTATE) if item.name == "talconfig.yaml"]
    validator = Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(yaml.safe_load(text))] == []


def test_every_value_is_one_that_the_operators_chart_has(chart: Path) -> None:
    known = yaml.safe_load((chart / "values.yaml").read_text())
    exporter = ESTATE.exporter.model_copy(update={"source": "dcgm"})
    assert ESTATE.gpu_operator is not None
    rendered = gpu_operator_values(ESTATE.model_copy(update={"exporter": exporter}), ESTATE.gpu_operator)
    assert set(unknown(rendered, known)) == YOUNGER_THAN_THE_CHART
    assert set(unknown(with_mig(), known)) == set()


def with_mig() -> dict[str, Any]:
    pools = shipped(PROJECT / "estates/gpu-pools.yaml")
    assert ESTATE.gpu_operator is not None
    return gpu_operator_values(pools, ESTATE.gpu_operator)


def unknown(values: Mapping[str, Any], known: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Helm takes any key, and one that no template reads does nothing."""
    for key, value in values.items():
        if key not in known:
            yield f"{path}{key}"
        elif isinstance(value, Mapping) and isinstance(known[key], Mapping):
            yield from unknown(value, known[key], f"{path}{key}.")


def test_the_operators_chart_reads_no_sharing_under_the_plugins_config(chart: Path) -> None:
    """Field fault 14, from the other side: what the reference wrote there is read by nobody."""
    templates = "".join(file.read_text() for file in sorted((chart / "templates").glob("*.yaml")))
    assert set(re.findall(r"\.Values\.devicePlugin\.config\.(\w+)", templates)) == {"name", "default", "create", "data"}
    assert "timeSlicing" not in templates


# Made on OpenShift alone, whose machines are no concern of an estate here.
OPENSHIFTS_OWN = "SecurityContextConstraints"
IN_A_NAMESPACE = {"ConfigMap", "DaemonSet", "Deployment", "Job", "PodMonitor", "Role", "RoleBinding", "ServiceAccount"}


def test_the_operators_project_allows_the_kinds_of_the_whole_cluster_that_its_chart_has(chart: Path) -> None:
    folders = ("templates", "crds", "charts/node-feature-discovery/templates", "charts/node-feature-discovery/crds")
    texts = [file.read_text() for folder in folders for file in sorted((chart / folder).glob("*.yaml"))]
    kinds = {kind for text in texts for kind in re.findall(r"^kind: (\w+)", text, re.MULTILINE)}
    assert kinds >= IN_A_NAMESPACE
    (project,) = (item.manifest for item in gpu_operator_delivery(ESTATE) if item.kind == "AppProject")
    allowed = {entry["kind"] for entry in project["spec"]["clusterResourceWhitelist"]}
    assert allowed == kinds - IN_A_NAMESPACE - {OPENSHIFTS_OWN}


def test_argo_cd_takes_the_application(nowhere: Path) -> None:
    crd = yaml.safe_load((go_module(ARGOCD, nowhere) / "manifests/crds/application-crd.yaml").read_text())
    (version,) = crd["spec"]["versions"]
    (application,) = (item.manifest for item in gpu_operator_delivery(ESTATE) if item.kind == "Application")
    assert f"{crd['spec']['group']}/{version['name']}" == application["apiVersion"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert [error.message for error in Draft202012Validator(spec).iter_errors(application["spec"])] == []
    known = spec["properties"]
    assert set(application["spec"]) <= set(known)
    assert set(application["spec"]["source"]) <= set(known["source"]["properties"])
    assert set(application["spec"]["source"]["helm"]) <= set(known["source"]["properties"]["helm"]["properties"])
    assert set(application["spec"]["syncPolicy"]) <= set(known["syncPolicy"]["properties"])
