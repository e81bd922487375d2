"""The watchdog has exactly the rights it needs: without any one of them something stops, and says so."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from helpers.domain.watchdog.rights import watchdog_rights
from lab.cluster import Lab
from lab.incident import TENANTS, Running, Tenants, grant, t4_node, wait_free, watchdog
from lab.small_exporter import LabExporter, lab_exporter
from lab.waiting import wait_for

pytestmark = pytest.mark.lab

NODE, NAMESPACE = "rights", "rights"
QUICK: dict[str, Any] = {
    "interval_seconds": 1.0,
    "cooldown_seconds": 0.0,
    "confirm_seconds": 0.5,
    "eviction_timeout_seconds": 1.0,
    "eviction_retry_seconds": 0.5,
    "recycles_per_hour_tenant": 1000,
    "recycles_per_hour": 1000,
}
HOOKED: dict[str, Any] = {
    "allow_exec": True,
    "rules": {"immich-ml": {"release_hook": {"command": ["free-memory"], "timeout_seconds": 10}}},
}
RIGHTS = watchdog_rights(allow_delete=True, allow_exec=True)
VERBS = sorted({f"{verb} {right.resource}" for right in RIGHTS for verb in right.verbs})


@pytest.fixture(scope="module")
def tenants(lab: Lab) -> Iterator[tuple[Tenants, LabExporter]]:
    lab.node_add(t4_node(NODE))
    with ExitStack() as stack:
        stack.callback(lab.node_remove, NODE)
        some = Tenants(lab, NAMESPACE, NODE)
        stack.callback(some.delete)
        some.create()
        some.disruption_budget("ollama")
        exporter = stack.enter_context(lab_exporter(NODE, lab.read_usage))
        exporter.interval_seconds = 0.2
        yield some, exporter


def ends_with(running: Running, words: str) -> bool:
    """Whether the process ended by itself and said which permission it lacks."""
    code = running.process.wait(40)
    failed = running.lines("run_failed")
    return code == 1 and bool(failed) and "cannot" in failed[0]["reason"] and words in failed[0]["reason"]


@pytest.mark.parametrize("verb", VERBS)
def test_each_right_is_needed(verb: str, tenants: tuple[Tenants, LabExporter], tmp_path: Path) -> None:
    some, exporter = tenants
    lab, home = some.lab, f"rights-{verb.replace(' ', '-').replace('/', '-')}"
    kubeconfig = grant(lab, home, allow_delete=True, exec_in=NAMESPACE, without=verb)
    discovers = "endpointslices" in verb
    settings = some.settings(**QUICK, allow_delete=True, on_blocked="delete", **(HOOKED if "exec" in verb else {}))
    targets = [] if discovers else [exporter.target]
    if verb in ("get leases", "patch leases"):
        make_lease(lab, home)
    with watchdog(tmp_path, kubeconfig, settings, targets, namespace=home, wait=False) as running:
        if verb in ("list pods", "watch pods", "list endpointslices", "watch endpointslices"):
            assert ends_with(running, verb.split()[1])
        elif "leases" in verb:
            assert ends_with(running, "leases")
        elif "exec" in verb:
            assert "get and create on pods/exec" in hook_said(some, running)
        else:
            fails_in_the_act(verb, some, running)


def test_with_both_verbs_the_api_lets_a_command_through_to_the_node(
    tenants: tuple[Tenants, LabExporter], tmp_path: Path
) -> None:
    """Where the lab ends: its bare nodes run nothing. tests/e2e/test_real_pods.py goes on from here."""
    some, exporter = tenants
    kubeconfig = grant(some.lab, "rights-exec", exec_in=NAMESPACE)
    settings = some.settings(**QUICK, **HOOKED)
    with watchdog(tmp_path, kubeconfig, settings, [exporter.target], namespace="rights-exec", wait=False) as running:
        said = hook_said(some, running)
    assert "pods/exec" not in said
    assert "forbidden" not in said.lower()


def hook_said(some: Tenants, running: Running) -> str:
    """What the log says about the release hook, after which the pod was evicted."""
    wait_for(lambda: running.lines("pass_finished"))
    some.grow("immich-ml", 10957)
    (finished,) = wait_for(lambda: running.lines("recycle_finished"))
    assert finished["decision"] == "evicted"
    (step,) = [line for line in running.lines("recycle_step") if line["step"] == "release_hook"]
    wait_for(lambda: len(some.running()) == len(TENANTS))
    return str(step["text"])


def make_lease(lab: Lab, namespace: str) -> None:
    """One that was given up: then reading and patching it is what is needed."""
    lab.api().post(
        f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
        {"metadata": {"name": "gpumem-watchdog"}, "spec": {"holderIdentity": "", "leaseDurationSeconds": 1}},
    )


def fails_in_the_act(verb: str, some: Tenants, running: Running) -> None:
    wait_for(lambda: running.lines("pass_finished"))
    blocked = verb == "delete pods"
    some.grow("ollama" if blocked else "immich-ml", 10000 if blocked else 10957)
    if verb == "create events":
        wait_free(some)
        wait_for(lambda: running.lines("event_not_written"))
        return
    line = wait_for(lambda: running.lines("recycle_finished"))[0]
    assert line["decision"] == "failed"
    assert "cannot" in line["reason"]
    assert {"delete pods": "delete", "create pods/eviction": "pods/eviction"}[verb] in line["reason"]
    some.grow("ollama", 1200)
    some.grow("immich-ml", 2048)


def test_exporters_are_found_by_their_services_endpoint_slices(
    lab: Lab, tenants: tuple[Tenants, LabExporter], tmp_path: Path
) -> None:
    """An exporter as a host of its own: EndpointSlices refuse loopback addresses."""
    some, _ = tenants
    home, address = "rights-discovery", "10.211.211.2"
    names = Namespace()
    if problem := names.make(address):
        pytest.skip(f"needs network namespaces (root, ip): {problem}")
    try:
        answer = subprocess.Popen([*names.prefix, sys.executable, "-c", SERVER, NODE], stdin=subprocess.PIPE)
        try:
            kubeconfig = grant(lab, home)
            port = {"name": "metrics", "port": 9836}
            api = lab.api()
            api.post(
                f"/apis/discovery.k8s.io/v1/namespaces/{home}/endpointslices",
                {
                    "metadata": {"name": "exp-1", "labels": {"kubernetes.io/service-name": "gpumem-exporter"}},
                    "addressType": "IPv4",
                    "ports": [port],
                    "endpoints": [{"addresses": [address], "nodeName": NODE}],
                },
            )
            with watchdog(tmp_path, kubeconfig, some.settings(**QUICK), [], namespace=home, wait=False) as running:
                seen = wait_for(lambda: [p for p in running.lines("pass_finished") if p["answered_count"] == 1])
                assert seen[0]["decisions"] == {"enough_free": 1}
                api.delete(f"/apis/discovery.k8s.io/v1/namespaces/{home}/endpointslices/exp-1")
                time.sleep(2)
                count = len(running.lines("pass_finished"))
                time.sleep(8)
                assert len(running.lines("pass_finished")) <= count + 1
        finally:
            answer.kill()
            answer.wait(10)
    finally:
        names.remove()


SERVER = """
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
CARD = 'gpu="0",uuid="GPU-x"'
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        rows = {"gpu_memory_total_bytes": 15360 << 20, "gpu_memory_used_bytes": 0, "gpu_sample_up": 1,
                "gpu_memory_free_bytes": 14910 << 20, "gpu_attribution_up": 1,
                "gpu_sample_timestamp_seconds": time.time()}
        text = "".join(f"{name}{{{CARD}}} {value}\\n" for name, value in rows.items()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_):
        pass
HTTPServer(("10.211.211.2", 9836), Handler).serve_forever()
"""


class Namespace:
    """A network namespace with one address, joined to this machine by a veth pair."""

    def __init__(self) -> None:
        self.name = "gpumem-test"
        self.prefix = ["ip", "netns", "exec", self.name]

    def make(self, address: str) -> str:
        """Empty, or why it cannot be."""
        commands = [
            ["ip", "netns", "add", self.name],
            ["ip", "link", "add", "gpumem-t0", "type", "veth", "peer", "name", "gpumem-t1"],
            ["ip", "link", "set", "gpumem-t1", "netns", self.name],
            ["ip", "address", "add", "10.211.211.1/30", "dev", "gpumem-t0"],
            ["ip", "link", "set", "gpumem-t0", "up"],
            [*self.prefix, "ip", "address", "add", f"{address}/30", "dev", "gpumem-t1"],
            [*self.prefix, "ip", "link", "set", "gpumem-t1", "up"],
            [*self.prefix, "ip", "link", "set", "lo", "up"],
        ]
        for command in commands:
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=20)
            except OSError as error:
                return str(error)
            if done.returncode:
                self.remove()
                return f"{' '.join(command)}: {done.stderr.strip()}"
        return ""

    def remove(self) -> None:
        for command in (["ip", "netns", "delete", self.name], ["ip", "link", "delete", "gpumem-t0"]):
            subprocess.run(command, capture_output=True, timeout=20)


def test_the_rights_name_no_object_that_is_not_the_watchdogs_own() -> None:
    rights = [right.rule() for right in watchdog_rights(allow_delete=False)]
    assert "delete" not in json.dumps(rights)
    assert "exec" not in json.dumps(rights)
    assert "secrets" not in json.dumps(rights)
    assert "*" not in json.dumps(rights)
