"""What GPU jobs stand on, as objects: machines, project namespaces, isolation, cards' partitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from helpers.domain import names
from helpers.domain.estate.model import Estate
from helpers.domain.estate.node_pools import duration_text
from helpers.domain.estate.project_limits import inert
from helpers.domain.estate.project_network import Network
from helpers.rendering.render import render
from tests.synth.estates import EXAMPLE, PROJECT, shipped

ESTATE = shipped(PROJECT / "estates/gpu-pools.yaml")
Manifest = Mapping[str, Any]


def with_manager(**changes: Any) -> Estate:
    assert ESTATE.manager is not None
    return ESTATE.model_copy(update={"manager": ESTATE.manager.model_copy(update=changes)})


def platform(estate: Estate = ESTATE) -> dict[str, Manifest]:
    return {item.address: item.manifest for item in render(estate).wave(2).objects}


def test_without_a_manager_nothing_is_rendered() -> None:
    assert platform(shipped(EXAMPLE)) == {}


def test_a_pool_is_the_old_provisioner_in_the_present_api() -> None:
    pool = platform()["node-pool-gpu-a100"]
    assert pool["apiVersion"] == "karpenter.sh/v1"
    spec = pool["spec"]
    assert spec["limits"] == {"nvidia.com/gpu": "24"}
    assert (spec["disruption"]["consolidationPolicy"], spec["disruption"]["consolidateAfter"]) == ("WhenEmpty", "10m")
    machine = spec["template"]["spec"]
    assert machine["expireAfter"] == "168h"
    assert machine["taints"] == [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}]
    wanted = {one["key"]: one["values"] for one in machine["requirements"]}
    assert wanted["karpenter.sh/capacity-type"] == ["spot", "on-demand"]
    assert wanted["node.kubernetes.io/instance-type"] == ["p4de.24xlarge"]
    assert machine["nodeClassRef"] == {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "gpu"}


def test_the_pools_together_keep_the_one_limit_of_64_gpus() -> None:
    limits = [item["spec"]["limits"]["nvidia.com/gpu"] for item in platform().values() if item["kind"] == "NodePool"]
    assert sum(map(int, limits)) == 64


def test_nothing_forces_a_running_job_off_its_machine() -> None:
    """With a terminationGracePeriod an expired machine would be drained of pods that must not be disrupted."""
    pools = [item for item in platform().values() if item["kind"] == "NodePool"]
    assert pools
    assert all("terminationGracePeriod" not in pool["spec"]["template"]["spec"] for pool in pools)
    assert names.DO_NOT_DISRUPT == {"karpenter.sh/do-not-disrupt": "true"}


def test_empty_machines_may_all_go_at_once_and_others_one_in_ten() -> None:
    budgets = platform()["node-pool-gpu-t4"]["spec"]["disruption"]["budgets"]
    assert {reason: budget["nodes"] for budget in budgets for reason in budget["reasons"]} == {
        "Empty": "100%",
        "Drifted": "10%",
        "Underutilized": "10%",
    }


def test_karpenter_is_told_what_a_machine_will_advertise() -> None:
    overlay = platform()["node-overlay-l40s-pool"]["spec"]
    assert overlay["capacity"] == {"viktorbarzin.me/gpumem": "360k", "nvidia.com/gpu.shared": "32"}
    assert overlay["requirements"][0]["values"] == ["gpu-l40s"]
    assert not any(item["kind"] == "NodeOverlay" for item in platform(with_manager(node_overlays=False)).values())


@pytest.mark.parametrize(("seconds", "text"), [(600, "10m"), (604800, "168h"), (90, "90s"), (0, "0s"), (5400, "90m")])
def test_durations_are_written_in_karpenters_words(seconds: int, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_pool_asks_the_mig_manager_by_its_label() -> None:
    assert ESTATE.manager is not None
    first, *others = ESTATE.manager.node_pools
    split = first.model_copy(update={"mig_config": "all-1g.10gb"})
    objects = platform(with_manager(node_pools=(split, *others)))
    labels = objects["node-pool-gpu-a100"]["spec"]["template"]["metadata"]["labels"]
    assert (
        labels["nvidia.com/mig.config"] in yaml.safe_load(objects["mig-config"]["data"]["config.yaml"])["mig-configs"]
    )


def test_the_mig_configuration_is_the_references_with_the_operators_default() -> None:
    config_map = platform()["mig-config"]
    assert set(config_map["data"]) == {"config.yaml"}
    assert yaml.safe_load(config_map["data"]["config.yaml"]) == {
        "version": "v1",
        "mig-configs": {
            "all-1g.10gb": [{"devices": "all", "mig-enabled": True, "mig-devices": {"1g.10gb": 7}}],
            "all-disabled": [{"devices": "all", "mig-enabled": False}],
        },
    }


def test_a_namespace_of_the_consumers_is_not_rendered_again() -> None:
    assert ESTATE.manager is not None
    (vision,) = [one for one in ESTATE.manager.projects if one.name == "vision"]
    taken = vision.model_copy(update={"name": "inference"})
    others = vision.model_copy(update={"name": "others", "create_namespace": False})
    objects = platform(with_manager(projects=(vision, taken, others)))
    assert [item["metadata"]["name"] for item in objects.values() if item["kind"] == "Namespace"] == ["vision"]
    assert {"project-quota-inference", "project-quota-others"} <= set(objects)


@pytest.mark.parametrize(
    ("key", "does_nothing"),
    [
        ("limits.nvidia.com/gpu", True),
        ("nvidia.com/gpu", True),
        ("requests.nvidia.com/gpu", False),
        ("limits.memory", False),
        ("count/jobs.batch", False),
        ("gold.storageclass.storage.k8s.io/requests.storage", False),
    ],
)
def test_which_keys_a_quota_takes_and_ignores(key: str, does_nothing: bool) -> None:
    assert inert(key) is does_nothing


def policy(estate: Estate = ESTATE, project: str = "vision") -> Any:
    return platform(estate)[f"project-network-{project}"]["spec"]


def test_names_can_be_resolved_from_an_isolated_project() -> None:
    first = policy()["egress"][0]
    assert first["to"][0]["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
    assert {(port["protocol"], port["port"]) for port in first["ports"]} == {("UDP", 53), ("TCP", 53)}


def test_projects_reach_their_own_pods_and_no_other_projects() -> None:
    mine = {"matchLabels": {"gpumem.io/project": "vision"}}
    spec = policy()
    assert spec["podSelector"] == mine
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    peers = [
        peer for way, rules in (("from", spec["ingress"]), ("to", spec["egress"])) for r in rules for peer in r[way]
    ]
    alone = [peer for peer in peers if "namespaceSelector" not in peer and "ipBlock" not in peer]
    assert alone == [{"podSelector": mine}] * 2
    named = {
        p["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for p in peers if "namespaceSelector" in p
    }
    assert named == {"gpu-system", "kube-system", "minio"}


def test_a_project_has_its_own_ways_out_beside_everybodys() -> None:
    blocks = [peer["ipBlock"] for rule in policy()["egress"] for peer in rule["to"] if "ipBlock" in peer]
    assert [block["cidr"] for block in blocks] == ["169.254.170.23/32", "0.0.0.0/0"]
    assert "169.254.0.0/16" in blocks[1]["except"]
    assert "0.0.0.0/0" not in str(policy(project="analytics"))


def test_the_whole_namespace_or_nothing_may_be_isolated() -> None:
    assert policy(with_manager(network=Network(all_pods=True)))["podSelector"] == {}
    assert not any(
        item["kind"] == "NetworkPolicy" for item in platform(with_manager(network=Network(isolated=False))).values()
    )


def test_submitters_and_viewers_have_rights_to_jobs_only() -> None:
    objects = platform()
    rules = objects["project-submitter-role-ml-research"]["rules"]
    assert rules == [
        {"apiGroups": ["gpumem.io"], "resources": ["gpujobs"], "verbs": ["create", "get", "list", "delete"]}
    ]
    assert objects["project-viewer-role-ml-research"]["rules"][0]["verbs"] == ["get", "list"]
    subjects = objects["project-submitter-binding-analytics"]["subjects"]
    assert subjects[1] == {"kind": "ServiceAccount", "name": "pipeline-runner", "namespace": "kubeflow"}
    assert "project-viewer-role-vision" not in objects
