"""The app as it runs in its pod: with the rendered rights of its own ServiceAccount, and with fewer."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.domain import names
from helpers.domain.capacity import CapacitySettings, NodeCapacity
from helpers.domain.errors import ExitCode
from helpers.ports.cluster import ObjectRef
from helpers.rendering.estate_file import load_estate
from helpers.rendering.render import render
from lab.cluster import Lab, LabNode
from lab.ports import free_ports
from lab.waiting import wait_for

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
NAMESPACE = "capacity-rights"
RESOURCE = "capacity-rights.test/gpumem"
NODE = "capacity-rights"
NODE_LABELS = {"capacity.test/rights": "yes"}
KINDS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
BOUND_SECONDS = 60


def settings(advertised_mib: int = 14000) -> CapacitySettings:
    kind = NodeCapacity(
        name="t4",
        node_name=NODE,
        labels={},
        min_nodes=1,
        advertised_mib=advertised_mib,
        share_resource="x.test/share",
        shares_count=0,
    )
    return CapacitySettings(
        resource=RESOURCE, kubernetes_version="1.36", label_prefix="gpumem.io", drain=False, nodes=(kind,)
    )


class App:
    """`gpumem capacity`, as the ServiceAccount."""

    def __init__(self, lab: Lab, cluster: KubernetesCluster, folder: Path) -> None:
        self.lab = lab
        self.cluster = cluster
        self.kubeconfig = lab.service_account_kubeconfig(NAMESPACE, names.CAPACITY_SERVICE_ACCOUNT)
        (self.port,) = free_ports(1)
        self.config = folder / names.CAPACITY_CONFIG_KEY
        self.config.write_text(settings().to_json())

    def start(self, mode: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "helpers.apps.cli", "capacity", mode, "--settings", str(self.config)]
        if mode == "watch":
            command += ["--namespace", NAMESPACE, "--metrics-address", f"127.0.0.1:{self.port}"]
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def run(self, mode: str) -> tuple[int, list[dict[str, Any]]]:
        process = self.start(mode)
        _, said = process.communicate(timeout=BOUND_SECONDS)
        return process.returncode, [json.loads(line) for line in said.splitlines() if line.startswith("{")]

    def stop(self, process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]]]:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=BOUND_SECONDS)
        return process.returncode, [json.loads(line) for line in said.splitlines() if line.startswith("{")]

    def metrics(self) -> dict[str, float]:
        """`{series: value}` as a scrape sees them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return {series: float(value) for series, value in pairs}

    def shown(self) -> str | None:
        status = (self.cluster.get(ObjectRef("v1", "Node", NODE)) or {}).get("status", {})
        amount: str | None = status.get("capacity", {}).get(RESOURCE)
        return amount


def rights() -> list[dict[str, Any]]:
    """The rendered identity of the capacity component, moved to a namespace and names of this test's own."""
    estate, _ = load_estate(ROOT / "gpumem.yaml")
    rendered = render(estate.model_copy(update={"namespace": NAMESPACE}))
    found = [copy.deepcopy(dict(item.manifest)) for item in rendered.objects if item.kind in KINDS]
    found = [item for item in found if names.CAPACITY_SERVICE_ACCOUNT in item["metadata"]["name"]]
    for item in found:
        if item["kind"] != "ServiceAccount":
            item["metadata"]["name"] += "-rights-test"
        if "roleRef" in item:
            item["roleRef"] = {**item["roleRef"], "name": item["roleRef"]["name"] + "-rights-test"}
    return found


@pytest.fixture(scope="module")
def app(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    cluster = connect(lab.kubeconfig)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    for item in [namespace, *rights()]:
        cluster.apply(item, field_manager="test", force=True)
    lab.node_add(LabNode(NODE, NODE_LABELS, {}, "bare"))
    app = App(lab, cluster, tmp_path_factory.mktemp("capacity"))
    yield app
    lab.node_remove(NODE)
    for plural in ("clusterroles", "clusterrolebindings"):
        lab.api().delete(f"/apis/rbac.authorization.k8s.io/v1/{plural}/{names.CAPACITY_SERVICE_ACCOUNT}-rights-test")


def test_the_rendered_rights_suffice_for_assert_and_unset(app: App) -> None:
    code, lines = app.run("assert")
    assert (code, app.shown()) == (ExitCode.OK, "14k"), lines
    assert not [line for line in lines if line["level"] != "info"]
    code, lines = app.run("unset")
    assert (code, app.shown()) == (ExitCode.OK, None), lines


def test_the_rendered_rights_suffice_for_the_watch_which_ends_cleanly_at_sigterm(app: App) -> None:
    process = app.start("watch")
    try:
        wait_for(lambda: app.shown() == "14k")
        app.lab.node_reregister(NODE)
        wait_for(lambda: app.shown() == "14k")
        set_twice = f'gpumem_capacity_asserts_total{{node="{NODE}",outcome="set"}}'
        wait_for(lambda: app.metrics().get(set_twice) == 2)
        metrics = app.metrics()
    finally:
        code, lines = app.stop(process)
    assert code == ExitCode.OK, lines
    assert not [line for line in lines if line["level"] != "info"]
    assert metrics[f'gpumem_capacity_advertised_bytes{{node="{NODE}"}}'] == 14000 * 1024 * 1024
    assert metrics["gpumem_capacity_last_success_timestamp_seconds"] > time.time() - 300
    lease = app.cluster.get(ObjectRef("coordination.k8s.io/v1", "Lease", names.CAPACITY_LEASE, NAMESPACE)) or {}
    assert lease["spec"]["holderIdentity"] == ""


def test_a_second_watch_waits_and_takes_over_when_the_first_ends(app: App) -> None:
    first = app.start("watch")
    lease = ObjectRef("coordination.k8s.io/v1", "Lease", names.CAPACITY_LEASE, NAMESPACE)

    def holder() -> str:
        return str(((app.cluster.get(lease) or {}).get("spec") or {}).get("holderIdentity", ""))

    wait_for(lambda: holder().endswith(f"_{first.pid}"))
    (app.port,) = free_ports(1)
    second = app.start("watch")
    try:
        wait_for(lambda: app.shown() == "14k")
        assert holder().endswith(f"_{first.pid}")
        assert app.stop(first)[0] == ExitCode.OK
        wait_for(lambda: holder().endswith(f"_{second.pid}"))
        app.lab.node_reregister(NODE)
        wait_for(lambda: app.shown() == "14k")
    finally:
        code, lines = app.stop(second)
    assert code == ExitCode.OK, lines


def without(cluster: KubernetesCluster, kind: str, resource: str, verb: str) -> list[dict[str, Any]]:
    """Applies the rights but for one verb on one resource; answers what brings them back."""
    changed = []
    for item in rights():
        if item["kind"] != kind:
            continue
        less = copy.deepcopy(item)
        for rule in less["rules"]:
            if resource in rule["resources"]:
                rule["verbs"] = [each for each in rule["verbs"] if each != verb]
        less["rules"] = [rule for rule in less["rules"] if rule["verbs"]]
        if less != item:
            cluster.apply(less, field_manager="test", force=True)
            changed.append(item)
    assert changed, f"no {kind} grants {verb} {resource}"
    return changed


@pytest.mark.parametrize(
    ("mode", "kind", "resource", "verb"),
    [
        ("assert", "ClusterRole", "nodes", "list"),
        ("assert", "ClusterRole", "nodes/status", "patch"),
        ("assert", "ClusterRole", "pods", "list"),
        ("watch", "ClusterRole", "nodes", "watch"),
        ("watch", "Role", "leases", "create"),
        ("watch", "Role", "leases", "get"),
        ("watch", "Role", "leases", "patch"),
    ],
)
def test_one_right_fewer_does_not_suffice_and_is_named(
    app: App, mode: str, kind: str, resource: str, verb: str
) -> None:
    app.run("unset")
    app.lab.api().delete(f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{names.CAPACITY_LEASE}")
    taken = without(app.cluster, kind, resource, verb)
    try:
        end = time.monotonic() + 3 * BOUND_SECONDS
        # The authorizer learns of a changed role a moment later.
        while (run := _bounded(app, mode))[0] != ExitCode.CHECK_FAILED:
            assert time.monotonic() < end, run
            app.run("unset")
    finally:
        for item in taken:
            app.cluster.apply(item, field_manager="test", force=True)
    (failed,) = [line for line in run[1] if line["event"] == "run_failed"]
    plain = resource.partition("/")[0]
    assert f'cannot {verb} resource "{resource}"' in failed["reason"], failed
    assert plain in failed["reason"]


def _bounded(app: App, mode: str) -> tuple[int, list[dict[str, Any]]]:
    """A watch that is not refused would run for ever: it gets a few seconds."""
    process = app.start(mode)
    try:
        _, said = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        return app.stop(process)
    return process.returncode, [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def test_without_the_right_to_events_the_work_is_done_and_that_is_said(app: App) -> None:
    app.run("unset")
    taken = without(app.cluster, "Role", "events", "create")
    try:

        def refused() -> list[dict[str, Any]]:
            app.run("unset")
            code, lines = app.run("assert")
            assert (code, app.shown()) == (ExitCode.OK, "14k")
            return [line for line in lines if line["event"] == "event_not_written"]

        (line,) = wait_for(refused)
        assert 'cannot create resource "events"' in line["reason"]
    finally:
        for item in taken:
            app.cluster.apply(item, field_manager="test", force=True)
