"""One estate by Terraform in one cluster and by Git in another: the same objects, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers.adapters.kubernetes_ import connect
from helpers.apps.cli.__main__ import run as run_gpumem
from helpers.domain.dra.claims import claim_template_name
from helpers.domain.estate.model import Estate
from helpers.domain.quantity import canonical_count
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.render import render
from lab import cluster, rights
from lab.cluster import Lab
from lab.estate_nodes import nodes_of_estate
from lab.foreign import create_foreign_workloads, foreign_workload
from lab.standins.install import ProviderChoice
from lab.terraform_run import PROJECT, TerraformRun
from lab.waiting import wait_for
from tests.fixtures.delivered_tree import RunJob, apply_tree, claims_text, live, numbers
from tests.lab.dra_scene import publish
from tests.terraform.conftest import estate_text

pytestmark = [pytest.mark.lab, pytest.mark.terraform]

GUIDE = (PROJECT / "docs/guides/gitops.md").read_text()
MANAGERS = {"argocd": "argocd-controller", "flux": "kustomize-controller"}


@dataclass(frozen=True)
class Side:
    """One estate, a cluster to which Terraform applied it, and one to which its tree was applied."""

    estate: Estate
    by_terraform: Lab
    by_git: Lab
    jobs: list[RunJob]


def t4_text() -> str:
    """Tenants of both kinds, one with two pods, the admission policies, somebody else's workloads."""
    return estate_text(**{"budget_mib: 1500": "budget_mib: 700\n    replicas: 2"})


def desk_text() -> str:
    """All three waves."""
    return (PROJECT / "estates" / "rtx2060super.yaml").read_text()


def with_gitops(text: str, engine: str) -> str:
    if "\ngitops:" in text:
        return text
    return f"{text}\ngitops: {{engine: {engine}, repo_url: 'https://git.example.com/a/gpus.git', path: gpu}}\n"


def claimed_text() -> str:
    """Budgets as claims."""
    return claims_text("argocd")


def new_lab(name: str, estate: Estate, root: Path) -> Lab:
    # A hollow kubelet takes slices away that no driver beside it published.
    claims = estate.claim_nodes()
    lab = cluster.up(name, nodes_of_estate(estate, "bare" if claims else "hollow"), root, print)
    create_foreign_workloads(lab.api(), estate)
    for node in claims:
        publish(connect(lab.kubeconfig), node.name, node.cards_mib())
    return lab


SIDES = {"argocd-t4": ("argocd", t4_text), "flux-desk": ("flux", desk_text), "argocd-claims": ("argocd", claimed_text)}


@pytest.fixture(scope="module", params=list(SIDES.values()), ids=list(SIDES))
def both(
    request: pytest.FixtureRequest,
    providers: ProviderChoice,
    terraform_program: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Side]:
    """The same file for both: the `gitops` block must change nothing for Terraform."""
    engine, text_of = request.param
    root, work_dir = tmp_path_factory.mktemp("labs"), tmp_path_factory.mktemp("terraform")
    text = with_gitops(text_of(), engine)
    estate = parse_estate(text, "gpumem.yaml")[0]
    copy = work_dir / "gpumem.yaml"
    copy.write_text(text)
    try:
        by_terraform, by_git = (new_lab(name, estate, root) for name in ("by-terraform", "by-git"))
        run = TerraformRun(work_dir, copy, by_terraform.kubeconfig, providers, terraform_program)
        run.deploy("nvidia", "consumers", *(["platform"] if render(estate).wave(2).objects else []))
        jobs = apply_tree(estate, tmp_path_factory.mktemp("tree"), by_git, MANAGERS[engine])
        yield Side(estate, by_terraform, by_git, jobs)
    finally:
        cluster.down("by-terraform", root)
        cluster.down("by-git", root)


def test_every_job_ends_well_with_the_rights_of_its_account(both: Side) -> None:
    assert [job for job in both.jobs if job.exit_code] == []
    assert both.jobs[0].name.startswith("gpumem-capacity-assert")
    assert both.jobs[1].name.startswith("gpumem-gate")
    tenants = [tenant for tenant in both.estate.tenants if tenant.apply != "admission"]
    assert len(both.jobs) == 2 + len(tenants)


def test_every_object_is_what_terraform_made_of_it(both: Side) -> None:
    theirs, ours = connect(both.by_terraform.kubeconfig), connect(both.by_git.kubeconfig)
    manifests: list[Any] = [item.manifest for item in render(both.estate).objects]
    manifests += [foreign_workload(both.estate, tenant) for tenant in both.estate.tenants if tenant.apply != "create"]
    assert len(manifests) > 30
    for manifest in manifests:
        assert live(ours, manifest) == live(theirs, manifest)
    for tenant in both.estate.tenants:
        workload = live(ours, foreign_workload(both.estate, tenant))
        assert workload["spec"]["replicas"] == tenant.replicas_count
        pod = workload["spec"]["template"]["spec"]
        resources = pod["containers"][0]["resources"]
        if both.estate.is_claimed(tenant):
            template = claim_template_name(both.estate, tenant)
            assert [item["resourceClaimTemplateName"] for item in pod["resourceClaims"]] == [template]
            assert resources["claims"] == [{"name": "gpumem"}]
        else:
            assert resources["limits"][both.estate.resource] == canonical_count(tenant.budget_mib)


def test_every_node_shows_the_number_that_it_shows_by_terraform_or_none_with_claims(both: Side) -> None:
    shown = numbers(connect(both.by_git.kubeconfig), both.estate.resource)
    assert shown == numbers(connect(both.by_terraform.kubeconfig), both.estate.resource)
    assert {amount is None for pair in shown.values() for amount in pair} == {bool(both.estate.claim_nodes())}


@pytest.mark.parametrize(
    ("account", "verb", "resource", "place", "allowed"),
    [
        ("gpumem-gate", "list", "nodes", "", True),
        ("gpumem-gate", "patch", "nodes/status", "", False),
        ("gpumem-gate", "list", "pods", "", False),
        ("gpumem-budget", "patch", "deployments", "immich/immich-server", True),
        ("gpumem-budget", "patch", "deployments", "immich/immich-postgres", False),
        ("gpumem-budget", "delete", "deployments", "immich/immich-server", False),
        ("gpumem-budget", "create", "deployments", "immich/", False),
        ("gpumem-budget", "patch", "deployments", "portal/portal-stt", False),
        ("gpumem-replicas", "patch", "deployments", "portal/portal-stt", True),
        ("gpumem-replicas", "patch", "deployments", "immich/immich-server", False),
    ],
)
@pytest.mark.parametrize("both", [("argocd", t4_text)], ids=["argocd-t4"], indirect=True)
def test_an_account_may_do_its_own_step_and_nothing_else(
    both: Side, account: str, verb: str, resource: str, place: str, allowed: bool
) -> None:
    kind, _, subresource = resource.partition("/")
    namespace, _, name = place.partition("/")
    group = "apps" if kind == "deployments" else ""
    attributes = {"verb": verb, "resource": kind, "subresource": subresource, "group": group}
    user = f"system:serviceaccount:{both.estate.namespace}:{account}"
    said = rights.allowed(both.by_git.api(), user, {**attributes, "namespace": namespace, "name": name})
    assert said is allowed


@pytest.mark.parametrize("both", [("argocd", t4_text)], ids=["argocd-t4"], indirect=True)
def test_the_guides_way_of_leaving_gives_back_what_terraforms_destroy_gives_back(both: Side) -> None:
    """The last test: what it takes away the others need."""
    leaving = GUIDE.split("## Leaving", 1)[1]
    cluster = connect(both.by_git.kubeconfig)
    foreign = [tenant for tenant in both.estate.tenants if tenant.apply == "patch"]
    assert f"`gpumem budget unset {foreign[0].name}`" in leaving
    assert "`gpumem capacity unset`" in leaving
    kubeconfig = ["--kubeconfig", str(both.by_git.kubeconfig)]
    example = ["-f", str(PROJECT / "gpumem.yaml")]
    for tenant in foreign:
        assert run_gpumem(["budget", "unset", tenant.name, *example, *kubeconfig]) == 0
        limits = live(cluster, foreign_workload(both.estate, tenant))["spec"]["template"]["spec"]["containers"][0]
        assert not limits.get("resources")
    # Nobody may put the number back: the engine has removed what would.
    assert run_gpumem(["capacity", "unset", *example, *kubeconfig]) == 0
    wait_for(lambda: {None} == {one for pair in numbers(cluster, both.estate.resource).values() for one in pair})
