"""What Argo CD and Flux are told: the order, what holds it up and what does not, and what they may touch."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from helpers.domain.estate.gitops import LONGEST_NAME, GitOps
from helpers.domain.estate.model import Estate
from helpers.rendering.gitops import DeliveredFolder, delivered_folders
from helpers.rendering.render import render
from tests.synth.estates import EXAMPLE, SHIPPED, example, example_on_webhook, shipped

ARGOCD = "argocd.argoproj.io/"
every_estate = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)


def folders(estate: Estate, engine: Any = "argocd", **keys: Any) -> tuple[DeliveredFolder, ...]:
    gitops = GitOps(engine=engine, repo_url="https://git.example.com/a/gpus.git", path="clusters/gpu", **keys)
    return delivered_folders(estate.model_copy(update={"gitops": gitops}), render(estate))


def told(item: Any) -> dict[str, str]:
    found: dict[str, str] = item.manifest["metadata"].get("annotations", {})
    return found


def engine_object(found: tuple[DeliveredFolder, ...], kind: str) -> Any:
    """The one of that kind, beside what belongs to the GPU Operator."""
    (made,) = (item.manifest for item in found[-1].objects if item.kind == kind and item.component != "gpu-operator")
    return made


def sync_waves(part: DeliveredFolder) -> set[int]:
    return {int(told(item)[f"{ARGOCD}sync-wave"]) for item in part.objects}


def is_hook(item: Any) -> bool:
    return f"{ARGOCD}hook" in told(item)


@every_estate
def test_argo_cd_applies_the_folders_of_a_wave_in_their_order(path: Path) -> None:
    found = folders(shipped(path))[:-1]
    for before, after in itertools.pairwise(found):
        if before.folder.split("/")[0] == after.folder.split("/")[0]:
            ((first,), (second,)) = (sync_waves(before), sync_waves(after))
            together = after.folder.endswith("tenant-steps") and before.folder.endswith("workloads")
            assert second == first + (not together), after.folder


@every_estate
def test_the_last_sync_wave_holds_no_hook_so_that_a_sync_waits_for_no_tenant(path: Path) -> None:
    for wave in {part.folder.split("/")[0] for part in folders(shipped(path))[:-1]}:
        parts = [part for part in folders(shipped(path))[:-1] if part.folder.startswith(f"{wave}/")]
        last = max(max(sync_waves(part)) for part in parts)
        for part in parts:
            for item in part.objects:
                runs_pods = item.kind in ("Deployment", "StatefulSet", "DaemonSet")
                assert not (runs_pods and sync_waves(part) != {last}), item.address
                assert not (is_hook(item) and sync_waves(part) == {last}), item.address


def test_the_capacity_assert_and_the_gate_are_hooks_and_a_tenants_own_steps_are_not() -> None:
    jobs = {item.address: item for part in folders(shipped(EXAMPLE)) for item in part.objects if item.kind == "Job"}
    assert {address for address, job in jobs.items() if is_hook(job)} == {"job-capacity-assert", "job-gate"}
    gate = jobs["job-gate"]
    assert told(gate)[f"{ARGOCD}hook-delete-policy"] == "BeforeHookCreation"
    assert gate.manifest["metadata"]["name"] == "gpumem-gate"
    assert gate.manifest["spec"]["backoffLimit"] == 0
    assert gate.manifest["spec"]["activeDeadlineSeconds"] > shipped(EXAMPLE).gate.timeout_seconds
    assert jobs["job-budget-immich-ml"].manifest["spec"]["backoffLimit"] > 100


@every_estate
def test_a_tenant_that_stays_pending_and_a_node_that_is_away_hold_back_no_wave(path: Path) -> None:
    for part in folders(shipped(path))[:-1]:
        for item in part.objects:
            ignored = told(item).get(f"{ARGOCD}ignore-healthcheck") == "true"
            tenant = part.folder.startswith("1-") and item.kind in ("Deployment", "StatefulSet", "DaemonSet")
            assert ignored == (tenant or item.kind == "DaemonSet"), item.address


@every_estate
@pytest.mark.parametrize("engine", ["argocd", "flux"])
def test_what_terraform_leaves_at_destroy_is_never_pruned(path: Path, engine: str) -> None:
    kept = {item.address for item in render(shipped(path)).objects if item.retain}
    key, value = {
        "argocd": (f"{ARGOCD}sync-options", "Prune=false,Delete=false"),
        "flux": ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
    }[engine]
    found = [item for part in folders(shipped(path), engine)[:-1] for item in part.objects]
    assert {item.address for item in found if told(item).get(key) == value} == kept
    assert {item.address for item in found if item.kind == "Namespace"} <= kept


@every_estate
def test_the_project_allows_what_is_rendered_and_nothing_else(path: Path) -> None:
    found = folders(shipped(path))
    spec = engine_object(found, "AppProject")["spec"]
    cluster, namespaced, places = set(), set(), set()
    for item in (item for part in found[:-1] for item in part.objects):
        version, metadata = item.manifest["apiVersion"], item.manifest["metadata"]
        group = version.rpartition("/")[0]
        if "namespace" in metadata:
            namespaced.add((group, item.kind))
            places.add(metadata["namespace"])
        else:
            cluster.add((group, item.kind, metadata["name"]))
    allowed = [(entry["group"], entry["kind"], entry["name"]) for entry in spec["clusterResourceWhitelist"]]
    assert allowed == sorted(cluster)
    assert [(entry["group"], entry["kind"]) for entry in spec["namespaceResourceWhitelist"]] == sorted(namespaced)
    assert [entry["namespace"] for entry in spec["destinations"]] == sorted(places)
    assert spec["sourceRepos"] == ["https://git.example.com/a/gpus.git"]
    assert "*" not in str(spec)
    application = engine_object(found, "ApplicationSet")["spec"]["template"]["spec"]
    assert application["destination"] in spec["destinations"]


@every_estate
def test_there_is_one_application_a_wave_and_they_are_synced_in_order(path: Path) -> None:
    found = folders(shipped(path))
    spec = engine_object(found, "ApplicationSet")["spec"]
    waves = sorted({part.folder.split("/")[0] for part in found[:-1]})
    assert [element["folder"] for element in spec["generators"][0]["list"]["elements"]] == waves
    steps = [step["matchExpressions"][0]["values"] for step in spec["strategy"]["rollingSync"]["steps"]]
    assert steps == [[wave.split("-")[0]] for wave in waves]


def test_argo_cd_leaves_alone_what_others_write() -> None:
    spec = engine_object(folders(shipped(EXAMPLE), ignored_field_managers=("keel",)), "ApplicationSet")["spec"]
    application = spec["template"]["spec"]
    ignored = application["ignoreDifferences"]
    scaled = {entry["kind"] for entry in ignored if entry.get("jsonPointers") == ["/spec/replicas"]}
    assert scaled == {"Deployment", "StatefulSet"}
    (managers,) = (entry["managedFieldsManagers"] for entry in ignored if "managedFieldsManagers" in entry)
    assert {"keel", "gpumem-injector", "gpumem-release", "gpumem-replicas"} == set(managers)
    options = set(application["syncPolicy"]["syncOptions"])
    assert {"ServerSideApply=true", "RespectIgnoreDifferences=true", "ClientSideApplyMigration=false"} <= options
    compared = spec["template"]["metadata"]["annotations"][f"{ARGOCD}compare-options"]
    assert compared == "ServerSideDiff=true,IncludeMutationWebhook=true"


def test_the_certificate_that_the_injector_writes_is_no_drift() -> None:
    spec = engine_object(folders(example_on_webhook()), "ApplicationSet")["spec"]["template"]["spec"]
    paths = {entry["kind"]: entry.get("jqPathExpressions") for entry in spec["ignoreDifferences"]}
    assert paths["MutatingWebhookConfiguration"] == [".webhooks[]?.clientConfig.caBundle"]


@every_estate
def test_flux_applies_every_folder_behind_the_one_before_it_and_waits_for_steps_alone(path: Path) -> None:
    found = folders(shipped(path), "flux")
    kustomizations = [item.manifest for item in found[-1].objects if item.kind == "Kustomization"]
    assert [k["spec"]["path"] for k in kustomizations] == [f"./clusters/gpu/{part.folder}" for part in found[:-1]]
    for before, after in itertools.pairwise(kustomizations):
        assert after["spec"]["dependsOn"] == [{"name": before["metadata"]["name"]}]
    assert "dependsOn" not in kustomizations[0]["spec"]
    for kustomization, part in zip(kustomizations, found, strict=False):
        assert kustomization["spec"]["wait"] == (part.folder.endswith("steps"))
        assert kustomization["spec"]["prune"] is True
        assert all(item.kind == "Job" for item in part.objects) == part.folder.endswith("steps")


@every_estate
def test_the_longest_name_fits_into_the_label_that_flux_writes_it_into(path: Path) -> None:
    found = folders(shipped(path), "flux", name="n" * LONGEST_NAME)[-1].objects
    assert max(len(item.manifest["metadata"]["name"]) for item in found) <= 63


def test_flux_never_starts_a_failed_job_again_so_none_gives_up() -> None:
    found = folders(shipped(EXAMPLE), "flux")
    jobs = [item.manifest for part in found for item in part.objects if item.kind == "Job"]
    assert len(jobs) == 7
    for job in jobs:
        assert job["spec"]["backoffLimit"] == 1000
        assert job["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure"
        assert "activeDeadlineSeconds" not in job["spec"]


@pytest.mark.parametrize(
    ("revision", "ref"),
    [
        ("main", {"branch": "main"}),
        ("refs/tags/v1", {"name": "refs/tags/v1"}),
        ("0123456789abcdef0123456789abcdef01234567", {"commit": "0123456789abcdef0123456789abcdef01234567"}),
    ],
)
def test_flux_is_told_whether_a_revision_is_a_branch_a_tag_or_a_commit(revision: str, ref: dict[str, str]) -> None:
    spec = engine_object(folders(shipped(EXAMPLE), "flux", revision=revision), "GitRepository")["spec"]
    assert spec["ref"] == ref
    assert "secretRef" not in spec


def test_the_gate_may_wait_as_long_as_the_estate_says() -> None:
    found = folders(example(**{"timeout_seconds: 120": "timeout_seconds: 900"}), "flux")
    (gate,) = (i.manifest for i in found[-1].objects if i.manifest["metadata"]["name"] == "gpumem-1-consumers-1-steps")
    assert int(gate["spec"]["timeout"].removesuffix("s")) > 900
