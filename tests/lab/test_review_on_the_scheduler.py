"""What a review foretells is what the real scheduler does: the named tenant waits, nobody else is disturbed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.apps.cli import __main__ as cli
from helpers.domain import names
from helpers.domain.errors import ExitCode
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant
from helpers.domain.quantity import canonical_count
from helpers.rendering.estate_file import load_estate
from helpers.rendering.objects import RenderedObject
from helpers.rendering.render import render
from helpers.rendering.review import review_estates
from lab import cluster
from lab.cluster import Lab
from lab.estate_nodes import nodes_of_estate
from lab.foreign import create_foreign_workloads
from lab.waiting import wait_for

pytestmark = pytest.mark.lab

EXAMPLE = (Path(__file__).parents[2] / "gpumem.yaml").read_text()


class Scene:
    """The example's T4 and its five tenants, applied by this project's own commands."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab, self._folder = lab, folder
        self.cluster: KubernetesCluster = connect(lab.kubeconfig)

    def apply(self, text: str) -> Estate:
        """The estate as Terraform would have it, without Terraform: objects, then steps."""
        file = self._folder / "estate.yaml"
        file.write_text(text)
        estate, _ = load_estate(file, allow_overcommit=True)
        create_foreign_workloads(self._lab.api(), estate)
        where = ["-f", str(file), "--kubeconfig", str(self._lab.kubeconfig)]
        assert cli.run(["capacity", "assert", *where]) == ExitCode.OK
        for item in render(estate).ordered():
            wanted = item.wave == 1 or item.address == "runtime-class"
            if isinstance(item, RenderedObject) and (wanted or item.kind == "Namespace"):
                self.cluster.apply(item.manifest, field_manager="gpumem-terraform", force=True)
        for tenant in estate.tenants:
            if tenant.apply == "patch":
                assert cli.run(["budget", "set", tenant.name, *where]) == ExitCode.OK
        return estate

    def start_over(self) -> Estate:
        """The example, everybody running."""
        estate = self.apply(EXAMPLE)
        for tenant in estate.tenants:
            for pod in self.pods() if tenant.workload.kind == "StatefulSet" else ():
                # What the review's repair says: a Pending pod of a StatefulSet outlives the change back.
                if is_pod_of_tenant(pod, tenant) and pod["status"]["phase"] == "Pending":
                    name = pod["metadata"]["name"]
                    self._lab.api().delete(f"/api/v1/namespaces/{tenant.namespace}/pods/{name}")
        self.settle(estate, set())
        return estate

    def pods(self) -> list[dict[str, Any]]:
        """Every pod of the lab."""
        found: list[dict[str, Any]] = self._lab.api().get("/api/v1/pods")["items"]
        return found

    def waiting(self, estate: Estate) -> set[str] | None:
        """Tenants whose pod the scheduler left without a place; None while anything is on its way."""
        found = set()
        for tenant in estate.tenants:
            pods = [pod for pod in self.pods() if is_pod_of_tenant(pod, tenant)]
            if (
                len(pods) != 1
                or "deletionTimestamp" in pods[0]["metadata"]
                or not holds_its_budget(pods[0], estate, tenant)
            ):
                return None
            if pods[0]["status"]["phase"] != "Running":
                reasons = [one.get("reason") for one in pods[0]["status"].get("conditions", ())]
                if "Unschedulable" not in reasons:
                    return None
                found.add(tenant.name)
        return found

    def settle(self, estate: Estate, waiting: set[str]) -> None:
        """Until exactly `waiting` wait, and go on doing so for a second."""
        wait_for(lambda: self.waiting(estate) == waiting)
        time.sleep(1.0)
        assert self.waiting(estate) == waiting


def is_pod_of_tenant(pod: dict[str, Any], tenant: Tenant) -> bool:
    """By namespace and by the name that its controller gives it."""
    metadata = pod["metadata"]
    ours = names.is_pod_of(tenant.workload.kind, tenant.workload.name, metadata["name"])
    return bool(metadata["namespace"] == tenant.namespace) and ours


def holds_its_budget(pod: dict[str, Any], estate: Estate, tenant: Tenant) -> bool:
    """Whether it is a pod of the estate as it is now, not of the one before."""
    (container,) = [one for one in pod["spec"]["containers"] if one["name"] == tenant.workload.container]
    limits = container["resources"].get("limits", {})
    return bool(limits.get(estate.resource) == canonical_count(tenant.budget_mib))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("review-labs")
    nodes = nodes_of_estate(load_estate(Path(__file__).parents[2] / "gpumem.yaml")[0])
    try:
        yield Scene(cluster.up("review", nodes, root, print), root)
    finally:
        cluster.down("review", root)


@pytest.mark.parametrize(
    ("changes", "waiting"),
    [
        ({"budget_mib: 3000": "budget_mib: 6000"}, {"immich-ml"}),
        ({"budget_mib: 2000": "budget_mib: 2701"}, {"frigate"}),
        ({"budget_mib: 1500": "budget_mib: 2200"}, set()),
    ],
)
def test_exactly_the_tenants_that_a_review_names_wait(scene: Scene, changes: dict[str, str], waiting: set[str]) -> None:
    before = scene.start_over()
    pods = scene.pods()
    text = EXAMPLE
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    after = scene.apply(text)
    review = review_estates(("before", before), ("after", after))
    assert {row.tenant for row in review.pending if row.new and row.certain} == waiting
    scene.settle(after, waiting)
    restarted = {row.tenant for row in review.tenants if row.restart_fields}
    now = {pod["metadata"]["uid"] for pod in scene.pods()}
    for tenant in after.tenants:
        kept = [pod["metadata"]["uid"] in now for pod in pods if is_pod_of_tenant(pod, tenant)]
        assert kept == [tenant.name not in restarted], tenant.name
