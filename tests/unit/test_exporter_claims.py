"""Budgets that are claims, in the exporter: read from what the node's agent wrote, and joined to pods by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.adapters.cdi_files import CdiFolder
from helpers.apps.exporter.run import claimed_in
from helpers.domain.dra.prepared import Grant, PreparedClaim
from helpers.domain.telemetry.pod_directory import read_pods
from helpers.rendering.render import render
from tests.fakes.telemetry import FakeLog
from tests.synth.estates import example, on_claims

RESOURCE = "example.com/gpumem"


def pod(**container: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "ai", "name": "ollama-0", "uid": "u"},
        "spec": {
            "resourceClaims": [{"name": "gpumem", "resourceClaimTemplateName": "gpumem-ollama-16000"}],
            "containers": [{"name": "ollama", **container}, {"name": "sidecar"}],
        },
        "status": {
            "phase": "Running",
            "resourceClaimStatuses": [{"name": "gpumem", "resourceClaimName": "ollama-0-gpumem-x7k2p"}],
        },
    }


def prepared(name: str, mib: int) -> PreparedClaim:
    grant = Grant(request="gpumem", pool="n", device="gpu-0", uuid="GPU-0", share_id=None, granted_mib=mib)
    return PreparedClaim(namespace="ai", name=name, uid=f"uid-{name}", grants=(grant,))


def test_the_container_with_the_claim_has_its_memory_as_budget() -> None:
    claimed = {("ai", "ollama-0-gpumem-x7k2p"): 16000, ("other", "ollama-0-gpumem-x7k2p"): 1}
    found = read_pods([pod(resources={"claims": [{"name": "gpumem"}]})], RESOURCE, claimed)
    assert [(one.namespace, one.pod, one.container, one.budget_mib) for one in found.budgets] == [
        ("ai", "ollama-0", "ollama", 16000)
    ]


def test_a_claim_of_a_name_of_its_own_counts_too() -> None:
    own = pod(resources={"claims": [{"name": "gpumem"}]})
    own["spec"]["resourceClaims"] = [{"name": "gpumem", "resourceClaimName": "mine"}]
    (budget,) = read_pods([own], RESOURCE, {("ai", "mine"): 8000}).budgets
    assert budget.budget_mib == 8000


def test_a_claim_that_is_not_prepared_here_is_no_budget_and_not_zero() -> None:
    assert read_pods([pod(resources={"claims": [{"name": "gpumem"}]})], RESOURCE, {}).budgets == ()


def test_a_number_counts_as_it_always_did() -> None:
    numbered = pod(resources={"limits": {RESOURCE: "3k"}})
    (budget,) = read_pods([numbered], RESOURCE, {("ai", "ollama-0-gpumem-x7k2p"): 16000}).budgets
    assert budget.budget_mib == 3000


def test_the_agents_files_are_read_and_one_that_is_broken_is_said_once(tmp_path: Path) -> None:
    CdiFolder(tmp_path).write(prepared("a", 16000))
    log = FakeLog()
    claimed = claimed_in(tmp_path, log)
    assert claimed() == {("ai", "a"): 16000}
    broken = next(tmp_path.iterdir())
    broken.write_text(json.dumps({"devices": []}))
    assert claimed() == claimed() == {}
    assert log.events().count("claim_unreadable") == 1


def test_the_folder_is_mounted_where_our_agent_runs_and_nowhere_else() -> None:
    for estate, is_there in ((on_claims(), True), (example(), False)):
        (daemon_set,) = [item.manifest for item in render(estate).objects if item.address.startswith("exporter-node-")]
        pod_spec = daemon_set["spec"]["template"]["spec"]
        assert ("--cdi-dir" in pod_spec["containers"][0]["args"]) == is_there
        assert any(volume["name"] == "cdi" for volume in pod_spec["volumes"]) == is_there
