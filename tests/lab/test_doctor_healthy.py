"""A cluster where all is well, with doctor's own rights and no others; and what exporters add."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.adapters.clock import SystemClock
from helpers.adapters.exporter_scrape import HttpExporters, parse_target
from helpers.adapters.kubernetes_ import connect
from helpers.domain.doctor.rights import DOCTOR_ROLE, doctor_rights
from helpers.domain.errors import Forbidden
from helpers.domain.rights import Scope
from helpers.services.doctor import Question
from lab.rights import grant_rights
from lab.small_exporter import LabExporter, lab_exporter
from lab.waiting import wait_for
from tests.fixtures.doctor_lab import NODE, Ward
from tests.synth.estates import example

pytestmark = pytest.mark.lab

RIGHTS = doctor_rights(example())
VERBS = [f"{verb} {right.resource}" for right in RIGHTS for verb in right.verbs]
PLACES: list[tuple[Scope, str]] = [("cluster", ""), ("namespace", "nvidia")]


def test_nothing_is_found_where_all_is_well(ward: Ward) -> None:
    assert ward.findings() == ()


def test_an_hourly_run_changes_nothing(ward: Ward) -> None:
    """Named as the CronJob's controller names it: when the clock makes one in the middle of a test, all stays well."""
    run = "gpumem-capacity-assert-29374577"
    try:
        done = ward.run(
            f"kubectl -n nvidia create job {run} --from=cronjob/gpumem-capacity-assert\n"
            f"kubectl -n nvidia wait job/{run} --for=condition=Complete --timeout=60s"
        )
        assert done.returncode == 0, done.stderr
        assert (ward.settled(), ward.findings()) == (True, ())
    finally:
        ward.run(f"kubectl -n nvidia delete job {run}")
        ward.calm()


def test_the_printed_role_is_all_that_it_needs(ward: Ward) -> None:
    done = ward.run("gpumem doctor --print-role | kubectl apply -f -")
    assert done.returncode == 0, done.stderr
    account = ward.lab.service_account_kubeconfig("nvidia", DOCTOR_ROLE)
    done = ward.run(f"gpumem doctor --kubeconfig {account}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "nothing found (5 tenants, 1 node entries)\n"


def test_it_may_only_read() -> None:
    assert {verb for right in RIGHTS for verb in right.verbs} == {"get", "list"}
    assert not {right.resource for right in RIGHTS} & {"secrets", "pods/exec", "pods/log", "pods/proxy", "*"}


@pytest.mark.parametrize("verb", [one for one in VERBS if "webhookconfigurations" not in one])
def test_each_right_is_needed_and_its_lack_is_no_clean_bill(verb: str, ward: Ward) -> None:
    account = f"doctor-{verb.replace(' ', '-')}"
    kubeconfig = grant_rights(ward.lab, "nvidia", account, RIGHTS, PLACES, without=verb)
    with pytest.raises(Forbidden, match=verb.split()[1]):
        ward.findings(cluster=connect(kubeconfig))


@pytest.fixture
def exporter(ward: Ward) -> Iterator[LabExporter]:
    with lab_exporter(NODE, ward.lab.read_usage) as one:
        one.interval_seconds = 0.1
        yield one


def asking(exporter: LabExporter) -> Question:
    return Question(exporters=HttpExporters(SystemClock()), targets=frozenset({parse_target(exporter.target)}))


def test_an_exporter_that_does_not_answer_is_found_and_gone_when_it_does(ward: Ward, exporter: LabExporter) -> None:
    exporter.fault = lambda _: None
    (found,) = ward.findings(asking(exporter))
    assert (found.id, found.where) == ("exporter-silent", f"Node {NODE}")
    assert found.evidence.startswith("no answer")
    assert found.command == "kubectl -n nvidia rollout restart daemonset/gpumem-exporter-t4-node"
    exporter.fault = lambda text: text
    assert ward.findings(asking(exporter)) == ()


def test_a_budget_under_what_its_pod_uses_is_found(ward: Ward, exporter: LabExporter) -> None:
    """Field fault 6: a budget of 5000 under a real 6996."""
    ward.lab.set_usage("llama-cpp", "llama-swap", 6996)
    (found,) = wait_for(lambda: ward.findings(asking(exporter)))
    assert (found.id, found.where) == ("budget-under-need", "tenant llama-swap")
    assert "budget_mib is 5000" in found.evidence
    assert "uses now 6996" in found.evidence
    ward.lab.set_usage("llama-cpp", "llama-swap", 0)
    wait_for(lambda: not ward.findings(asking(exporter)))
