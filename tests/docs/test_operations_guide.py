"""The guide to operations, held against the code: every finding, every right; and its commands, run on the lab."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.domain.doctor.finding import Severity
from helpers.domain.doctor.objects import WATCHED
from helpers.domain.doctor.rights import doctor_rights
from lab.waiting import wait_for
from tests.fixtures.doctor_lab import Ward
from tests.synth.estates import EXAMPLE, PROJECT, example, on_claims

GUIDE = (PROJECT / "docs/guides/operations.md").read_text()
RULES = "".join(file.read_text() for file in sorted((PROJECT / "helpers/domain/doctor").glob("*.py")))
ROWS = dict(re.findall(r"^\| `([a-z-]+)` \| (error|warning|info) \|", GUIDE, re.MULTILINE))
BLOCKS = re.findall(r"^```bash\n(.+?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
# Findings whose name says what is absent, down or without a leader.
GUARDS = ("watchdog", "capacity-watch")


def known_ids() -> dict[str, str]:
    """Every id that a rule can give, with its severity."""
    plain = re.findall(r'Finding\(\s*"([a-z-]+)",\s*(?:Severity\.([A-Z]+)|)', RULES)
    found = {name: severity.lower() for name, severity in plain}
    components = {"device-plugin-config", "webhook", *GUARDS, *(name for name, _ in WATCHED.values())}
    found |= dict.fromkeys((f"{name}-absent" for name in components), "error")
    compared = {"device-plugin-config", *(name for name, fields in WATCHED.values() if fields)}
    found |= dict.fromkeys((f"{name}-differs" for name in compared), "error")
    found |= {f"{one}-{what}": "error" for one in GUARDS for what in ("down", "no-leader", "lease-expired")}
    either = ("capacity-missing", "capacity-stale", "cards-missing", "cards-differ", "tenant-pending")
    return found | dict.fromkeys(either, "error")


def test_the_table_has_every_finding_and_no_other() -> None:
    assert known_ids() == ROWS
    assert set(ROWS.values()) == {severity.value for severity in Severity}


def test_the_table_of_rights_is_the_codes() -> None:
    rows = re.findall(r"^\| ([a-z0-9.]+) \| ([a-z]+) \| (get|list) \| (cluster|namespace) \|$", GUIDE, re.MULTILINE)
    assert rows == [
        (right.api_group or "core", right.resource, ", ".join(right.verbs), right.scope)
        for right in doctor_rights(on_claims())
    ]
    groups = [{(right.api_group, right.resource) for right in doctor_rights(one)} for one in (on_claims(), example())]
    assert {group for group, _ in groups[0] - groups[1]} == {"resource.k8s.io"}
    assert "Those of resource.k8s.io only where budgets are claims." in GUIDE


@pytest.mark.lab
def test_every_command_of_the_guide_runs(ward: Ward, tmp_path: Path) -> None:
    (health,) = re.findall(r"^```yaml\n(.+?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    text = EXAMPLE.read_text()
    marker = "    pod: # create only: the PodSpec"
    assert text.count(marker) == 1
    ward.file.write_text(text.replace(marker, f"{health}{marker}"))
    try:
        done = ward.run(f"cd {tmp_path}\n" + "\n".join(BLOCKS))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "nothing found" in done.stdout
        assert "llama-swap: 1 of 1 pods run" in done.stdout
        assert "would" in done.stdout or "dry run" in done.stdout
    finally:
        ward.calm()
    assert ward.findings() == ()


@pytest.mark.lab
def test_a_tenant_that_stops_answering_is_worse_than_before(ward: Ward, tmp_path: Path) -> None:
    """Real HTTP to the lab's pods; it is not ready any more, so it answers 503 and its port still opens."""
    probes = "{name: api, http: {port: 8080}}, {name: port, tcp: {port: 8080}}"
    marker = "    pod: # create only: the PodSpec"
    ward.file.write_text(EXAMPLE.read_text().replace(marker, f"    health: {{probes: [{probes}]}}\n{marker}"))
    slow = "kubectl -n llama-cpp patch deployment llama-swap --type=merge -p "
    slow += '\'{"spec":{"template":{"metadata":{"annotations":{"lab.gpumem.io/ready-after-seconds":%s}}}}}\''
    try:
        assert ward.run(f"gpumem health llama-swap --before {tmp_path}/b.json").returncode == 0
        assert ward.run(f"gpumem health llama-swap --after {tmp_path}/b.json").returncode == 0
        assert ward.run(slow % '"3600"').returncode == 0
        # The one of before is gone, and its successor is there.
        mark = "lab.gpumem.io/ready-after-seconds"
        wait_for(
            lambda: (
                [
                    (mark in pod["metadata"].get("annotations", {}), pod["status"].get("phase"))
                    for pod in ward.pods("llama-cpp")
                ]
                == [(True, "Running")]
            )
        )
        done = ward.run(f"gpumem health llama-swap --after {tmp_path}/b.json")
        assert done.returncode == 1, done.stdout
        assert "worse than before: probe api: 100% of answers failed (0% may): GET / on port 8080: status 503" in (
            done.stderr
        )
        assert "probe port" not in done.stderr
    finally:
        ward.run(slow % "null")
        ward.calm()
