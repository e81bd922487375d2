"""A gate among other holders of leases: the book says whose turn it is, whatever is measured free."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers.domain.lanes.settings import coordinator_settings
from helpers.sdk import lease
from lab.cluster import Lab
from lab.gates import HOME, GatedTenants, gates_node, quick
from lab.programs import NoProgram, find_program
from lab.queues.coordinators import CoordinatorProcess, InCluster
from lab.redis_server import redis_server
from lab.small_exporter import lab_exporter
from lab.waiting import wait_for
from tests.fakes.gates import guide_estate

pytestmark = pytest.mark.lab

NODE, PLEX = "gate-leases", ("media", "plex")
TOKEN = "a-token-of-the-test-0"
LANES = """  lanes:
    - {name: evening, class: batch, tenant: plex}
    - {name: office, class: batch, tenant: vllm}
  leases: {tenants: [{tenant: plex}, {tenant: vllm}], ttl_seconds: 5}
  engines:
"""


def test_a_gate_waits_for_the_lease_of_another_and_gives_its_own_back(lab: Lab, tmp_path: Path) -> None:
    found = find_program("redis-server")
    if isinstance(found, NoProgram):
        pytest.skip(found.reason)
    settings = coordinator_settings(
        guide_estate(
            **{
                "  engines:\n": LANES,
                "      tenant: vllm\n": "      tenant: vllm\n      lane: office\n",
                "      tenant: plex\n": "      tenant: plex\n      lane: evening\n",
                "    - name: training\n      tenant: training\n      dry_run: false\n"
                '      windows: [{from: "00:00", to: "07:30", time_zone: Europe/Berlin}]\n': "",
            }
        )
    )
    assert settings is not None
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN} tester vllm\n")
    tokens.chmod(0o600)
    lab.node_add(gates_node(NODE))
    with ExitStack() as stack:
        stack.callback(lab.node_remove, NODE)
        tenants = GatedTenants(lab, NODE, {PLEX: 3900})
        stack.callback(tenants.delete)
        tenants.create()
        exporter = stack.enter_context(lab_exporter(NODE, lab.read_usage))
        exporter.interval_seconds = 0.2
        server = stack.enter_context(redis_server(tmp_path / "redis", durable=False))
        whole = quick(settings, server.url, exporter, windows=[])
        plex = whole.model_copy(update={"gates": tuple(rule for rule in whole.gates if rule.name == "plex")})
        arguments = ["--lease-address", "127.0.0.1:0", "--lease-tokens", str(tokens)]
        running = CoordinatorProcess(
            plex, tmp_path / "coordinator", cluster=InCluster(lab.kubeconfig, HOME), arguments=arguments
        )
        stack.callback(running.stop)
        (served,) = wait_for(lambda: running.of("leases_served"))
        url = f"http://127.0.0.1:{served['port']}"
        with lease(tenant="vllm", mib=8600, lane="office", max_wait_seconds=60, url=url, token=TOKEN):
            wait_for(lambda: [one for one in running.of("gate_changed") if one["decision"] == "lease"])
            # 14910 MiB are measured free, and 11500 are promised: 8600 + 1000 are taken.
            assert tenants.replicas(*PLEX) == 0
        wait_for(lambda: tenants.pods("Running") == ["plex"])
        (granted,) = [one for one in running.of("lease_granted") if one["tenant"] == "plex"]
        assert (granted["user"], granted["lane"], granted["mib"]) == ("gate:plex", "evening", 4000)
        time.sleep(12)  # more than two lives of a lease: it is renewed as long as the workload runs
        assert tenants.pods("Running") == ["plex"]
        assert not running.of("lease_expired")
        lab.set_usage("media", "plex", 14000)
        wait_for(lambda: not tenants.pods())
        wait_for(lambda: [one for one in running.of("lease_released") if one["tenant"] == "plex"])
