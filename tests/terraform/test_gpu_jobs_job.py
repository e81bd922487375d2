"""The third reference's estate on the control plane: what GPU jobs stand on, applied, planned again, destroyed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import cluster
from lab.cluster import Lab
from lab.crds import NoCrds, apply_crds, find_crds
from lab.standins.install import ProviderChoice
from lab.terraform_run import PROJECT, TerraformRun

pytestmark = [pytest.mark.lab, pytest.mark.terraform]

ESTATE = PROJECT / "estates" / "gpu-pools.yaml"
STACKS = ("nvidia", "consumers", "platform")
POOLS = "/apis/karpenter.sh/v1/nodepools"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A cluster without a machine, as elastic pools begin."""
    root = tmp_path_factory.mktemp("labs")
    try:
        lab = cluster.up("gpu-jobs", (), root, print)
        for name in ("karpenter", "karpenter-aws", "kueue"):
            found = find_crds(name)
            if isinstance(found, NoCrds):
                pytest.skip(f"CRDs of {name} cannot be had: {found.reason}")
            apply_crds(lab.api(), found)
        yield lab
    finally:
        cluster.down("gpu-jobs", root)


@pytest.fixture(scope="module")
def applied(
    empty: Lab, providers: ProviderChoice, terraform_program: str, tmp_path_factory: pytest.TempPathFactory
) -> TerraformRun:
    work_dir: Path = tmp_path_factory.mktemp("terraform")
    copy = work_dir / "gpumem.yaml"
    shutil.copy(ESTATE, copy)
    run = TerraformRun(work_dir, copy, empty.kubeconfig, providers, terraform_program)
    run.deploy(*STACKS)
    return run


def test_the_pools_are_there_and_a_second_plan_is_empty(applied: TerraformRun, empty: Lab) -> None:
    pools = {pool["metadata"]["name"] for pool in empty.api().get(POOLS)["items"]}
    assert pools == {"gpu-a100", "gpu-h100", "gpu-l40s", "gpu-t4"}
    for stack in STACKS:
        plan = applied.plan(stack)
        assert plan.changes() == {}, stack
        assert plan.is_empty


def test_another_engine_adds_its_queues_and_lifts_the_ceilings(applied: TerraformRun, empty: Lab) -> None:
    before = applied.estate_file.read_text()
    applied.estate_file.write_text(before.replace("engine: native\n", "engine: kueue\n"))
    try:
        applied.synth()
        changed = applied.plan("platform").changes()
        assert {actions for address, actions in changed.items() if ".kueue-" in address} == {("create",)}
        others = {address: actions for address, actions in changed.items() if ".kueue-" not in address}
        # The ceilings, and what the manager may do with that engine's objects.
        kinds, projects = ("project-quota", "manager-project-role"), ("ml-research", "analytics", "vision")
        assert others == {f"kubectl_manifest.{kind}-{name}": ("update",) for kind in kinds for name in projects}
        applied.apply("platform")
        assert applied.plan("platform").changes() == {}
    finally:
        applied.estate_file.write_text(before)
        applied.synth()
        applied.apply("platform")
    assert empty.api().get("/apis/kueue.x-k8s.io/v1beta2/clusterqueues")["items"] == []


def test_destroy_takes_the_pools_and_leaves_the_projects_namespaces(applied: TerraformRun, empty: Lab) -> None:
    applied.destroy("platform")
    api = empty.api()
    assert api.get(POOLS)["items"] == []
    assert api.exists("/api/v1/namespaces/vision")
    assert not api.exists("/apis/networking.k8s.io/v1/namespaces/vision/networkpolicies/gpumem-isolation")
