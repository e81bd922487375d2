"""The GPU Operator's values: what follows from the estate, what is left to the chart, and Argo CD's Application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.domain.estate.gitops import GitOps
from helpers.domain.estate.gpu_operator_checks import decided_values
from helpers.domain.estate.model import Estate
from helpers.domain.names import DEVICE_PLUGIN_CONFIG_LABEL
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.gitops import delivered_folders
from helpers.rendering.gpu_operator import gpu_operator_application, gpu_operator_delivery, gpu_operator_values
from helpers.rendering.monitoring import scrape_text
from helpers.rendering.render import render
from helpers.rendering.write import write_tree
from tests.synth.estates import PROJECT, example, shipped

TALOS = PROJECT / "estates/talos-2x3090.yaml"
POOLS = PROJECT / "estates/gpu-pools.yaml"


def with_operator(path: Path = TALOS, block: str = "{chart_version: v26.7.0}", **replaced: str) -> Estate:
    """A shipped estate with another `gpu_operator` block and lines replaced."""
    document = yaml.safe_load(path.read_text())
    document["gpu_operator"] = yaml.safe_load(block)
    text = yaml.safe_dump(document, sort_keys=False)
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    return parse_estate(text, path.name)[0]


def values(estate: Estate) -> dict[str, Any]:
    assert estate.gpu_operator is not None
    return gpu_operator_values(estate, estate.gpu_operator)


def test_the_operator_reads_the_sharing_from_the_rendered_config_map() -> None:
    """Field fault 14: `sharing` inline in the values is not read; name and default are."""
    estate = shipped(TALOS)
    config_map = next(item.manifest for item in render(estate).objects if item.address == "device-plugin-config")
    assert values(estate)["devicePlugin"]["config"] == {
        "create": False,
        "name": config_map["metadata"]["name"],
        "default": "gpu-worker",
    }
    assert "gpu-worker" in config_map["data"]
    assert config_map["metadata"]["namespace"] == estate.namespace  # where the operator looks for it


def test_several_entries_have_no_default_unless_one_is_named() -> None:
    assert values(with_operator(POOLS))["devicePlugin"]["config"]["default"] == ""
    named = with_operator(POOLS, "{chart_version: v26.7.0, default_node: l40s-pool}")
    assert values(named)["devicePlugin"]["config"]["default"] == "l40s-pool"


def test_machines_that_karpenter_makes_carry_the_label_of_their_sharing() -> None:
    pools = {item.manifest["metadata"]["name"]: item.manifest for item in render(shipped(POOLS)).objects}
    labels = {name: pools[name]["spec"]["template"]["metadata"]["labels"] for name in ("gpu-l40s", "gpu-t4")}
    assert {name: found[DEVICE_PLUGIN_CONFIG_LABEL] for name, found in labels.items()} == {
        "gpu-l40s": "l40s-pool",
        "gpu-t4": "t4-pool",
    }


def test_on_talos_driver_and_toolkit_are_the_images() -> None:
    found = values(shipped(TALOS))
    assert (found["driver"], found["toolkit"]) == ({"enabled": False}, {"enabled": False})
    assert found["hostPaths"] == {"driverInstallDir": "/usr/local"}


def test_elsewhere_the_operator_installs_both_unless_told() -> None:
    found = values(with_operator(POOLS))
    assert (found["driver"], found["toolkit"]) == ({"enabled": True}, {"enabled": True})
    assert "hostPaths" not in found
    told = values(with_operator(POOLS, "{chart_version: v26.7.0, driver: false}"))
    assert (told["driver"], told["toolkit"]) == ({"enabled": False}, {"enabled": True})


def test_the_mig_managers_config_map_is_the_rendered_one() -> None:
    estate = with_operator(POOLS)
    config_map = next(item.manifest for item in render(estate).objects if item.address == "mig-config")
    found = values(estate)
    assert found["mig"] == {"strategy": "mixed"}
    assert found["migManager"]["config"]["name"] == config_map["metadata"]["name"]
    assert found["migManager"]["config"]["default"] in yaml.safe_load(config_map["data"]["config.yaml"])["mig-configs"]
    assert "migManager" not in values(shipped(TALOS))


def test_the_operators_pods_get_onto_every_node() -> None:
    taint = {"key": "dedicated", "value": "gpu", "operator": "Equal", "effect": "NoExecute"}
    estate = shipped(TALOS)
    node = estate.nodes[0].model_copy(update={"tolerations": (taint,)})
    found = values(estate.model_copy(update={"nodes": (node,)}))
    for tolerations in (found["daemonsets"]["tolerations"], found["node-feature-discovery"]["worker"]["tolerations"]):
        assert taint in tolerations
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in tolerations
        assert len(tolerations) == 2


def test_dcgm_says_each_pods_own_memory_where_the_exporter_reads_it() -> None:
    assert "hostPID" not in values(shipped(TALOS))["dcgmExporter"]
    estate = shipped(TALOS)
    exporter = estate.exporter.model_copy(update={"source": "dcgm", "dcgm_collection_seconds": 1.0})
    found = values(estate.model_copy(update={"exporter": exporter}))["dcgmExporter"]
    assert (found["hostPID"], found["hostNetwork"]) == (True, True)
    assert {item["name"]: item["value"] for item in found["env"]} == {
        "KUBERNETES_VIRTUAL_GPUS": "true",
        "NVIDIA_RESOURCE_NAMES": "nvidia.com/gpu",
        "DCGM_EXPORTER_INTERVAL": "1000",
    }


@pytest.mark.parametrize("wanted", [True, False])
def test_dcgm_is_scraped_once_and_where_it_runs(wanted: bool) -> None:
    estate = with_operator(block=f"{{chart_version: v26.7.0, dcgm_exporter: {str(wanted).lower()}}}")
    assert values(estate)["dcgmExporter"]["serviceMonitor"] == {"enabled": False}
    monitors = [item.manifest for item in render(estate).objects if item.kind == "PodMonitor"]
    found = [item["spec"] for item in monitors if item["metadata"]["name"] == "nvidia-dcgm-exporter"]
    assert len(found) == wanted
    for spec in found:
        assert spec["selector"] == {"matchLabels": {"app": "nvidia-dcgm-exporter"}}
        (endpoint,) = spec["podMetricsEndpoints"]
        assert (endpoint["port"], endpoint["interval"]) == ("metrics", "15s")
    jobs = {job["job_name"]: job for job in yaml.safe_load(scrape_text(estate, estate.monitoring))["scrape_configs"]}
    assert ("nvidia-dcgm-exporter" in jobs) is wanted
    if wanted:
        (discovery,) = jobs["nvidia-dcgm-exporter"]["kubernetes_sd_configs"]
        assert discovery["selectors"] == [{"role": "pod", "label": "app=nvidia-dcgm-exporter"}]


def test_more_values_stand_beside_those_of_the_estate() -> None:
    block = "{chart_version: v26.7.0, values: {devicePlugin: {version: v0.20.0}, gfd: {enabled: false}}}"
    found = values(with_operator(block=block))
    assert found["devicePlugin"]["version"] == "v0.20.0"
    assert found["devicePlugin"]["config"]["name"] == "time-slicing-config"
    assert found["gfd"] == {"enabled": False}


def leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield from leaves(value, (*path, key)) if isinstance(value, dict) else [(*path, key)]


def with_dcgm(estate: Estate) -> Estate:
    return estate.model_copy(update={"exporter": estate.exporter.model_copy(update={"source": "dcgm"})})


@pytest.mark.parametrize("estate", [shipped(TALOS), with_operator(POOLS), with_dcgm(shipped(TALOS))])
def test_what_is_rendered_is_refused_among_the_further_values_and_nothing_else(estate: Estate) -> None:
    decided = dict(decided_values(estate))
    rendered = set(leaves(values(estate)))
    for path in rendered:
        assert any(path[: len(head)] == head for head in decided), path
    for head in decided:
        assert any(path[: len(head)] == head for path in rendered), head


def test_our_own_plugin_is_not_rendered_beside_the_operators() -> None:
    assert not [item for item in render(shipped(TALOS)).objects if item.address.startswith("device-plugin-node")]


def test_the_namespace_lets_pods_in_that_mount_the_machines_folders() -> None:
    def labels(estate: Estate) -> Any:
        return next(o.manifest for o in render(estate).objects if o.address == "namespace")["metadata"]["labels"]

    assert labels(shipped(TALOS))["pod-security.kubernetes.io/enforce"] == "privileged"
    assert "pod-security.kubernetes.io/enforce" not in labels(example())


def test_the_values_lie_in_a_folder_of_their_own_and_go_with_the_block(tmp_path: Path) -> None:
    write_tree(render(shipped(TALOS)), tmp_path)
    text = (tmp_path / "gpu-operator/values.yaml").read_text()
    assert text.startswith("# For NVIDIA's chart gpu-operator v26.7.0, in namespace gpu-operator.\n")
    assert yaml.safe_load(text) == values(shipped(TALOS))
    write_tree(render(example()), tmp_path)
    assert list((tmp_path / "gpu-operator").iterdir()) == []


def delivered_by(block: str | None) -> Estate:
    gitops = None if block is None else GitOps.model_validate(yaml.safe_load(block))
    return shipped(TALOS).model_copy(update={"gitops": gitops})


def test_argo_cd_gets_the_same_values() -> None:
    found = gpu_operator_application(shipped(TALOS))
    assert found is not None
    source = found.manifest["spec"]["source"]
    assert source["helm"]["valuesObject"] == values(shipped(TALOS))
    assert (source["chart"], source["targetRevision"]) == ("gpu-operator", "v26.7.0")


def test_without_gitops_the_application_lies_beside_the_values_in_a_fresh_argo_cds_project() -> None:
    estate = delivered_by(None)
    (file,) = (item for item in render(estate).files if item.name == "application.yaml")
    application = yaml.safe_load(file.text)
    assert application["metadata"]["namespace"] == "argocd"
    assert application["spec"]["project"] == "default"
    assert application["spec"]["destination"]["namespace"] == estate.namespace
    assert delivered_folders(estate, render(estate)) == ()


def test_with_gitops_name_namespace_project_and_cluster_are_the_estates() -> None:
    where = "path: gpu, name: house, namespace: delivery, cluster_url: 'https://10.0.0.1:6443'"
    estate = delivered_by(f"{{engine: argocd, repo_url: 'https://git.example.com/a/b.git', {where}}}")
    assert [item.name for item in render(estate).files if item.folder == "gpu-operator"] == ["values.yaml"]
    found = {item.address: item.manifest for item in delivered_folders(estate, render(estate))[-1].objects}
    application, project = found["gpu-operator-application"], found["gpu-operator-project"]
    for item in (application, project):
        assert (item["metadata"]["namespace"], item["metadata"]["name"]) == ("delivery", "house-gpu-operator")
    assert application["spec"]["project"] == project["metadata"]["name"]
    assert application["spec"]["destination"] in project["spec"]["destinations"]
    assert application["spec"]["destination"]["server"] == "https://10.0.0.1:6443"
    assert project["spec"]["sourceRepos"] == [application["spec"]["source"]["repoURL"]]
    assert project["metadata"]["name"] != found["argocd-project"]["metadata"]["name"]


def test_the_application_tries_until_the_first_wave_has_made_its_namespace() -> None:
    found = gpu_operator_application(shipped(TALOS))
    assert found is not None
    assert found.manifest["spec"]["syncPolicy"]["retry"]["limit"] == -1


def test_with_flux_there_are_the_values_and_no_application() -> None:
    estate = delivered_by("{engine: flux, repo_url: 'https://git.example.com/a/b.git', path: gpu}")
    assert gpu_operator_application(estate) is None
    assert [item.name for item in render(estate).files if item.folder == "gpu-operator"] == ["values.yaml"]
    assert list(gpu_operator_delivery(estate)) == []


def test_without_the_block_or_a_repository_there_is_no_application() -> None:
    assert gpu_operator_application(example()) is None
    assert list(gpu_operator_delivery(with_operator())) == []
    assert [file.name for file in render(with_operator()).files if file.folder == "gpu-operator"] == ["values.yaml"]
