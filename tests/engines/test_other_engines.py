"""Objects for Kueue and Volcano on a real API server. Their behaviour is theirs, and neither is installed here."""

from __future__ import annotations

import re

import pytest

from helpers.adapters.kubernetes_ import connect
from helpers.apps.manager import engine_of
from helpers.domain.errors import ClusterError
from helpers.domain.jobs.settings import ManagerSettings
from lab.cluster import Lab
from lab.crds import lists_kind
from lab.jobs import apply_job_platform, jobs_estate, settings_of
from lab.waiting import wait_for
from tests.fakes.jobs import job, spec
from tests.fakes.outside import FakeLog
from tests.fixtures.platform_lab import ApplyCrds

VOLCANO = "scheduling.volcano.sh"

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def standing(platform_lab: Lab) -> Lab:
    apply_job_platform(platform_lab, jobs_estate())
    return platform_lab


def engine_settings(engine: str) -> ManagerSettings:
    return settings_of(jobs_estate()).model_copy(update={"engine": engine})


def test_kueues_job_is_taken_and_stays_held(standing: Lab) -> None:
    with engine_of(engine_settings("kueue"), connect(standing.kubeconfig), FakeLog()) as engine:
        one = job("gpu-job-kueue", spec=spec(workers=4, priority="high"))
        engine.ensure(one)
        engine.ensure(one)
        assert engine.observe()["gpu-job-kueue"].phase == "held"
        assert engine.lets_go_itself()
        engine.remove(one)


def test_volcano_that_is_not_there_is_named(standing: Lab) -> None:
    """The Job is made and nobody schedules its pods; the PodGroup is due again until Volcano is there."""
    api = standing.api()
    api.delete(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/podgroups.{VOLCANO}")  # another test's
    wait_for(lambda: not lists_kind(api, f"{VOLCANO}/v1beta1", "PodGroup"))
    with engine_of(engine_settings("volcano"), connect(standing.kubeconfig), FakeLog()) as engine:
        one = job("gpu-job-none", spec=spec(workers=2))
        with pytest.raises(ClusterError, match=re.escape(f"{VOLCANO}/v1beta1")):
            engine.ensure(one)
        engine.remove(one)


def test_volcanos_pod_group_against_its_own_schema(standing: Lab, serve_crds: ApplyCrds) -> None:
    serve_crds("volcano")
    with engine_of(engine_settings("volcano"), connect(standing.kubeconfig), FakeLog()) as engine:
        engine.ensure(job("gpu-job-volcano", spec=spec(workers=4)))


@pytest.mark.parametrize(
    ("engine", "what"),
    [
        ("kueue", "borrowing in a cohort, fair sharing, preemption, all-or-nothing, ProvisioningRequest"),
        ("volcano", "queues by weight, gangs by PodGroup, preemption"),
    ],
)
def test_the_engines_own_behaviour(engine: str, what: str) -> None:
    pytest.skip(f"{engine} is not installed here (no package carries a program of it), so {what} were not seen")
