"""The engines' own objects, applied to a real API server with the published CRDs of Argo CD and Flux.

Applied is with strict field validation, so a field that a CRD does not know is an error.
"""

from __future__ import annotations

import copy
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.domain.doctor.commands import apply_objects
from helpers.domain.errors import ClusterError
from helpers.domain.estate.gitops import GitOps
from helpers.domain.estate.model import Estate
from helpers.ports.cluster import ObjectRef
from helpers.rendering.gitops import delivered_folders
from helpers.rendering.objects import RenderedObject
from helpers.rendering.render import render
from helpers.rendering.write import write_tree
from lab.cluster import Lab
from tests.fixtures.platform_lab import ApplyCrds
from tests.synth.estates import PROJECT, SHIPPED, shipped
from tests.unit.test_doctor_rules import facts

pytestmark = pytest.mark.lab

GUIDE = (PROJECT / "docs/guides/gitops.md").read_text()
CRDS = {"argocd": ("argocd",), "flux": ("flux-kustomize", "flux-source")}
KINDS = {"argocd": {"AppProject", "ApplicationSet"}, "flux": {"GitRepository", "Kustomization"}}


@pytest.fixture(scope="module")
def cluster(platform_lab: Lab) -> KubernetesCluster:
    return connect(platform_lab.kubeconfig)


def with_gitops(number: int, engine: Any) -> Estate:
    keys: dict[str, Any] = {"ignored_field_managers": ("keel",)} if engine == "argocd" else {"secret_name": "gpus-git"}
    keys |= {"repo_url": "ssh://git@git.example.com/a/gpus.git", "path": "gpu", "name": f"gpus-{number}"}
    return shipped(SHIPPED[number]).model_copy(update={"gitops": GitOps(engine=engine, **keys)})


def engine_objects(number: int, engine: Any) -> list[RenderedObject]:
    estate = with_gitops(number, engine)
    return list(delivered_folders(estate, render(estate))[-1].objects)


def namespace(cluster: KubernetesCluster, name: str) -> None:
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, field_manager="test")


@pytest.mark.parametrize("engine", ["argocd", "flux"])
def test_the_published_schemas_take_the_objects_of_every_estate(
    cluster: KubernetesCluster, serve_crds: ApplyCrds, engine: str
) -> None:
    serve_crds(*CRDS[engine])
    for number in range(len(SHIPPED)):
        items = engine_objects(number, engine)
        operators = {"Application"} if engine == "argocd" and shipped(SHIPPED[number]).gpu_operator else set()
        assert {item.kind for item in items} == KINDS[engine] | operators
        for item in items:
            namespace(cluster, item.manifest["metadata"]["namespace"])
            applied = cluster.apply(item.manifest, field_manager="test")
            assert applied["spec"].items() >= item.manifest["spec"].items(), item.address


def test_the_application_of_a_wave_is_one_that_argo_cds_schema_takes(
    cluster: KubernetesCluster, serve_crds: ApplyCrds
) -> None:
    """What the ApplicationSet's controller would make of its template and one element of its list."""
    serve_crds("argocd")
    (made,) = (item for item in engine_objects(0, "argocd") if item.kind == "ApplicationSet")
    (generator,) = made.manifest["spec"]["generators"]
    for element in generator["list"]["elements"]:
        application = filled(made.manifest["spec"]["template"], element)
        application |= {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application"}
        assert "{{" not in str(application)
        namespace(cluster, application["metadata"]["namespace"])
        assert cluster.apply(application, field_manager="test")["spec"] == application["spec"]


@pytest.mark.parametrize("engine", ["argocd", "flux"])
def test_doctors_command_asks_the_engines_objects_to_look_at_once(
    platform_lab: Lab, cluster: KubernetesCluster, serve_crds: ApplyCrds, engine: str
) -> None:
    serve_crds(*CRDS[engine])
    items = [item.manifest for item in engine_objects(0, engine)]
    if engine == "argocd":
        (made,) = (item for item in items if item["kind"] == "ApplicationSet")
        element = made["spec"]["generators"][0]["list"]["elements"][0]
        application = filled(made["spec"]["template"], element)
        items = [application | {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application"}]
    for item in items:
        namespace(cluster, item["metadata"]["namespace"])
        cluster.apply(item, field_manager="test")
    line = apply_objects(facts(estate=with_gitops(0, engine)))
    command = [str(platform_lab.bin("kubectl")), f"--kubeconfig={platform_lab.kubeconfig}", *line.split()[1:]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"gpus-0-{'0-nvidia' if engine == 'argocd' else '0-nvidia-0-objects'} annotated" in done.stdout


def test_a_field_that_no_schema_knows_is_an_error(cluster: KubernetesCluster, serve_crds: ApplyCrds) -> None:
    serve_crds("flux-kustomize")
    item = engine_objects(0, "flux")[-1]
    namespace(cluster, item.manifest["metadata"]["namespace"])
    wrong: dict[str, Any] = copy.deepcopy(dict(item.manifest))
    wrong["spec"]["dependson"] = []
    with pytest.raises(ClusterError, match="dependson"):
        cluster.apply(wrong, field_manager="test")


def test_the_guides_command_applies_the_engines_folder(
    platform_lab: Lab, cluster: KubernetesCluster, serve_crds: ApplyCrds, tmp_path: Path
) -> None:
    serve_crds("argocd")
    (line,) = re.findall(r"^kubectl (apply .+)$", GUIDE, re.MULTILINE)
    folder = tmp_path / line.split()[-1]
    estate = with_gitops(0, "argocd")
    namespace(cluster, "argocd")
    write_tree(render(estate), folder.parent, delivered_folders(estate, render(estate)))
    command = [str(platform_lab.bin("kubectl")), f"--kubeconfig={platform_lab.kubeconfig}", *line.split()]
    applied = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert applied.returncode == 0, applied.stderr
    assert cluster.get(ObjectRef("argoproj.io/v1alpha1", "ApplicationSet", "gpus-0", "argocd")) is not None


def filled(value: Any, element: dict[str, str]) -> Any:
    if isinstance(value, str):
        for key, text in element.items():
            value = value.replace("{{." + key + "}}", text)
        return value
    if isinstance(value, dict):
        return {key: filled(item, element) for key, item in value.items()}
    return [filled(item, element) for item in value] if isinstance(value, list) else value
