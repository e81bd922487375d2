"""The second reference's estate on the control plane: all three stacks in order, and what later plans show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.domain import names
from helpers.domain.lanes.settings import coordinator_settings
from helpers.rendering.estate_file import load_estate
from lab import cluster
from lab.cluster import Lab
from lab.estate_nodes import nodes_of_estate
from lab.queues.coordinators import CoordinatorProcess, InCluster
from lab.standins.install import ProviderChoice
from lab.terraform_run import PROJECT, TerraformRun
from lab.waiting import wait_for
from tests.queues.conftest import why_not

pytestmark = [pytest.mark.lab, pytest.mark.terraform]

ESTATE = PROJECT / "estates" / "rtx2060super.yaml"
STACKS = ("nvidia", "consumers", "platform")
HOME = "gpu-system"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("labs")
    try:
        yield cluster.up("platform", nodes_of_estate(load_estate(ESTATE)[0]), root, print)
    finally:
        cluster.down("platform", root)


@pytest.fixture(scope="module")
def applied(
    desk: Lab, providers: ProviderChoice, terraform_program: str, tmp_path_factory: pytest.TempPathFactory
) -> TerraformRun:
    work_dir = tmp_path_factory.mktemp("terraform")
    copy = work_dir / "gpumem.yaml"
    text = ESTATE.read_text()
    # A lane that is asked to yield needs rights in its tenant's namespace as well.
    asked = text.replace("      settle_seconds: 5\n", "      settle_seconds: 5\n      on_realtime: yield\n")
    hook = "    watchdog: {release_hook: {port: 11434, path: /api/generate, body: '{\"keep_alive\": 0}'}}\n"
    copy.write_text(asked.replace("    models_loaded: one\n", f"    models_loaded: one\n{hook}"))
    assert copy.read_text().count("yield") == 1 + text.count("yield")
    run = TerraformRun(work_dir, copy, desk.kubeconfig, providers, terraform_program)
    run.deploy(*STACKS)
    return run


def found(desk: Lab, path: str) -> dict[str, Any]:
    return desk.api().get(path)


def test_the_coordinator_is_there_with_its_rights(applied: TerraformRun, desk: Lab) -> None:
    deployment = found(desk, f"/apis/apps/v1/namespaces/{HOME}/deployments/{names.COORDINATOR_COMPONENT}")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == names.COORDINATOR_COMPONENT
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    role = found(desk, f"{rbac}/namespaces/ai/roles/{names.COORDINATOR_COMPONENT}")
    assert [(rule["resources"], rule["verbs"]) for rule in role["rules"]] == [
        (["pods"], ["list"]),
        (["events"], ["create"]),
    ]
    cluster_role = found(desk, f"{rbac}/clusterroles/{names.COORDINATOR_COMPONENT}")
    assert [(rule["resources"], rule["verbs"]) for rule in cluster_role["rules"]] == [(["nodes"], ["list"])]


@pytest.mark.parametrize("stack", STACKS)
def test_a_second_plan_is_empty(applied: TerraformRun, stack: str) -> None:
    plan = applied.plan(stack)
    assert plan.changes() == {}
    assert plan.is_empty


def test_gpu_system_belongs_to_one_stack(applied: TerraformRun, desk: Lab) -> None:
    namespace = found(desk, f"/api/v1/namespaces/{HOME}")
    assert namespace["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "gpumem"
    owners = [
        stack for stack in STACKS if "gpu-system-namespace" in (applied.stack_dir(stack) / "cdk.tf.json").read_text()
    ]
    assert owners == ["nvidia"]


def test_a_changed_lane_is_one_document_and_one_rollout(applied: TerraformRun) -> None:
    before = applied.estate_file.read_text()
    applied.estate_file.write_text(before.replace("settle_seconds: 5\n", "settle_seconds: 7\n"))
    try:
        applied.synth()
        changed = applied.plan("platform").changes()
    finally:
        applied.estate_file.write_text(before)
        applied.synth()
    assert changed == {
        "kubectl_manifest.coordinator": ("update",),
        "kubectl_manifest.coordinator-config": ("update",),
    }


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
def test_with_what_was_applied_a_coordinator_leads(applied: TerraformRun, desk: Lab, tmp_path: Path) -> None:
    """The mounted document, the applied Roles. Its Redis is none that is there: that is said, and it goes on."""
    settings = coordinator_settings(load_estate(applied.estate_file)[0])
    assert settings is not None
    nowhere = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": "redis://127.0.0.1:1/0"})})
    kubeconfig = desk.service_account_kubeconfig(HOME, names.COORDINATOR_COMPONENT)
    process = CoordinatorProcess(nowhere, tmp_path, cluster=InCluster(kubeconfig, HOME))
    try:
        wait_for(lambda: process.of("leadership_won"))
        wait_for(lambda: process.of("redis_does_not_answer"))
        assert process.process.poll() is None
    finally:
        process.kill()


def test_destroy_takes_the_coordinator_and_leaves_the_namespace(applied: TerraformRun, desk: Lab) -> None:
    applied.destroy("platform")
    api = desk.api()
    assert not api.exists(f"/apis/apps/v1/namespaces/{HOME}/deployments/{names.COORDINATOR_COMPONENT}")
    assert not api.exists(f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{names.COORDINATOR_COMPONENT}")
    assert api.exists(f"/api/v1/namespaces/{HOME}")
    applied.destroy("consumers")
    applied.destroy("nvidia")
    assert api.exists(f"/api/v1/namespaces/{HOME}"), "others may live there by then"
