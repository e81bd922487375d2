"""No right too many: what fails where one verb is missing, with the rendered Roles' own rules, on a real API server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.adapters.job_engines import observing, watched
from helpers.adapters.kubernetes_ import connect
from helpers.adapters.kubernetes_.commands import connect_commands
from helpers.domain.errors import DependencyError, Forbidden
from helpers.domain.estate.model import Estate
from helpers.domain.jobs.rights import engine_rights
from helpers.domain.jobs.settings import ManagerSettings
from helpers.ports.cluster import ObjectRef
from helpers.rendering.objects import RenderedObject
from helpers.rendering.render import render
from helpers.services import manager_follow
from lab.cluster import Lab
from lab.jobs import LabManager, lab_manager, settings_of
from lab.rights import grant_rights
from tests.engines.scene import job_object, quota, remove_jobs
from tests.fakes.outside import FakeLog

pytestmark = pytest.mark.lab

HOME, PROJECT = "gpu-system", "vision"
RIGHTS = engine_rights("native")


@pytest.fixture
def settings(job_estate: Estate) -> ManagerSettings:
    found = settings_of(job_estate)
    return found.model_copy(update={"projects": found.projects[:1]})


@pytest.fixture
def as_account(
    jobs_lab: Lab, job_estate: Estate, settings: ManagerSettings, tmp_path: Path
) -> Iterator[Callable[..., tuple[LabManager, Any]]]:
    """A manager with the engine's rights, but for one; and what the account may ask for besides."""
    with contextlib.ExitStack() as stack:

        def made(without: str = "") -> tuple[LabManager, Any]:
            places: list[Any] = [("cluster", ""), ("tenants", PROJECT)]
            account = "manager" + without.replace(" ", "-").replace("/", "-")
            kubeconfig = grant_rights(jobs_lab, HOME, account, RIGHTS, places, without=without)
            cluster = connect(kubeconfig)
            url = f"sqlite:///{tmp_path}/{account}.db"
            manager = stack.enter_context(lab_manager(jobs_lab, settings, url, FakeLog(), cluster=cluster))
            return manager, (cluster, kubeconfig)

        yield made
    remove_jobs(jobs_lab, job_estate)


def lived(manager: LabManager) -> str:
    """A whole life and a look at the log; the job's id."""
    job_id = manager.submit(seconds=0.2, log="done")
    manager.until_over(job_id)
    assert manager.statuses(job_id) == ["completed"]
    assert manager.engine.logs(manager.job(job_id), tail_lines=1, worker=0) == "done\n"
    manager.engine.remove(manager.job(job_id))
    return job_id


def test_the_rendered_roles_hold_these_rights_and_no_other(job_estate: Estate) -> None:
    roles = {
        (item.kind, item.manifest["metadata"].get("namespace", "")): item.manifest["rules"]
        for item in render(job_estate).objects
        if isinstance(item, RenderedObject)
        and item.kind in ("Role", "ClusterRole")
        and item.manifest["metadata"]["name"] == "gpumem-manager"
    }
    assert job_estate.manager is not None
    wanted = [right.rule() for right in RIGHTS if right.scope == "tenants"]
    for project in job_estate.manager.projects:
        assert roles["Role", project.name] == wanted
    everywhere = {resource for rule in roles["ClusterRole", ""] for resource in rule["resources"]}
    assert everywhere == {"tokenreviews", "subjectaccessreviews", "nodes"}


def test_with_all_rights_a_job_lives_and_is_removed(jobs_lab: Lab, as_account: Any) -> None:
    manager, _ = as_account()
    job_id = lived(manager)
    assert job_object(jobs_lab, PROJECT, job_id) is None


@pytest.mark.parametrize(
    "without",
    [
        *(f"{verb} jobs" for verb in ("create", "get", "list", "watch", "patch", "delete")),
        *("list pods", "watch pods", "get pods/log", "list nodes", "watch nodes"),
    ],
)
def test_each_right_is_needed(as_account: Any, without: str) -> None:
    manager, _ = as_account(without)
    assert refusal_of(manager, lambda text: is_about(text, without))


def refusal_of(manager: LabManager, wanted: Callable[[str], bool]) -> str:
    """What a whole life runs into, by an error or in the log; LabError where it runs into nothing."""
    log, found = manager.log, ""
    assert isinstance(log, FakeLog)

    def refused() -> bool:
        nonlocal found
        found = next((str(line.get("reason")) for _, _, line in log.lines if wanted(str(line.get("reason")))), "")
        return bool(found) or all(status == "completed" for status in manager.statuses(job_id))

    job_id = manager.submit(seconds=0.2)
    try:
        manager.until(refused)
        if not found:
            manager.engine.logs(manager.job(job_id), tail_lines=1, worker=0)
            manager.engine.remove(manager.job(job_id))
    except DependencyError as error:
        found = str(error) if wanted(str(error)) else ""
    return found


def is_about(text: str, without: str) -> bool:
    verb, resource = without.split()
    return "403" in text and f'cannot {verb} resource "{resource}"' in text


def test_a_project_whose_rights_are_gone_keeps_no_other_back(
    jobs_lab: Lab, job_estate: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where its namespace was deleted, and its RoleBinding with it."""
    monkeypatch.setattr(watched, "COMPARED_EVERY_SECONDS", 0.5)
    monkeypatch.setattr(manager_follow, "GONE_SECONDS", 0.5)
    settings = settings_of(job_estate)
    settings = settings.model_copy(update={"projects": settings.projects[:2]})
    theirs_name = settings.projects[1].name
    places: list[Any] = [("cluster", ""), ("tenants", PROJECT), ("tenants", theirs_name)]
    cluster = connect(grant_rights(jobs_lab, HOME, "manager-of-two", RIGHTS, places))
    base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{theirs_name}/rolebindings"
    log = FakeLog()
    with lab_manager(jobs_lab, settings, f"sqlite:///{tmp_path}/two.db", log, cluster=cluster) as manager:
        theirs = manager.submit(project=theirs_name, seconds=10)
        manager.until(lambda: manager.statuses(theirs) == ["running"])
        binding = jobs_lab.api().get(f"{base}/{HOME}-manager-of-two")
        jobs_lab.api().delete(f"{base}/{HOME}-manager-of-two")
        manager.until(lambda: bool(log.of("project_not_read")))
        lived(manager)
        assert manager.statuses(theirs) == ["running"]
        assert "403" in str(log.of("project_not_read")[0]["reason"])
        # Back again, it is followed again: it is over meanwhile.
        kept = {key: binding[key] for key in ("roleRef", "subjects")}
        jobs_lab.api().post(base, {"metadata": {"name": binding["metadata"]["name"]}, **kept})
        manager.until(lambda: bool(log.of("project_read_again")))
        manager.until(lambda: manager.statuses(theirs) == ["completed"])
    remove_jobs(jobs_lab, job_estate)


@pytest.mark.parametrize("verb", ["create", "get"])
def test_a_signal_needs_both_verbs_of_exec(as_account: Any, verb: str) -> None:
    _, (_, kubeconfig) = as_account(f"{verb} pods/exec")
    pod = ObjectRef("v1", "Pod", "none", PROJECT)
    with pytest.raises(Forbidden, match="pods/exec"):
        connect_commands(kubeconfig).run(pod, "main", ["true"], 10)


def test_without_reading_events_nobody_knows_why_pods_cannot_be_made(
    jobs_lab: Lab, as_account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails all the same; with the right it says why (`test_unmade_pods`)."""
    monkeypatch.setattr(observing, "PLACE_SECONDS", 2)
    manager, _ = as_account("list events")
    with quota(jobs_lab, PROJECT, {"requests.cpu": "4"}):
        job_id = manager.submit(seconds=None)
        manager.until_over(job_id)
    assert manager.job(job_id).reason.endswith("could not be made for 2 s: no Event says why")
    assert any('cannot list resource "events"' in str(line["reason"]) for line in manager.log.of("events_not_read"))


def test_without_events_jobs_live_and_the_log_says_so(as_account: Any) -> None:
    manager, _ = as_account("create events")
    lived(manager)


@pytest.mark.parametrize(
    ("kind", "namespace", "name"),
    [("Secret", PROJECT, ""), ("Pod", "kube-system", ""), ("ConfigMap", PROJECT, ""), ("Secret", HOME, "")],
)
def test_it_can_read_nothing_else(as_account: Any, kind: str, namespace: str, name: str) -> None:
    _, (cluster, _) = as_account()
    with pytest.raises(Forbidden):
        cluster.list(ObjectRef("v1", kind, name, namespace))
