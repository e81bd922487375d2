"""Every recovery runbook, its commands run literally on a cluster that has the fault; afterwards all is well."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.waiting import wait_for
from tests.fixtures.doctor_lab import NODE, Ward
from tests.fixtures.doctor_webhook import endpoint, trust
from tests.synth.estates import PROJECT

pytestmark = pytest.mark.lab

PAGES = sorted((PROJECT / "docs/runbooks").glob("recovery-*.md"))
# Says every command that failed. Doctor may: it is asked while something is wrong.
PRELUDE = 'set -uo pipefail\ntrap \'echo "FAILED: $BASH_COMMAND" >&2\' ERR\ncd "$(mktemp -d)"\n'


def commands(page: str) -> str:
    text = (PROJECT / f"docs/runbooks/recovery-{page}.md").read_text()
    return "\n".join(re.findall(r"^```bash\n(.+?)^```$", text, re.MULTILINE | re.DOTALL))


def follow(ward: Ward, page: str) -> str:
    """Runs the page; its output. Fails where a command did, but for doctor's own verdict."""
    done = ward.run(f"set +e\n{PRELUDE}{commands(page)}")
    failed = [line for line in re.findall(r"FAILED: (.*)", done.stderr) if not line.startswith("gpumem doctor")]
    assert failed == [], done.stdout + done.stderr
    return done.stdout


def well(ward: Ward) -> None:
    """Until nothing is found any more."""
    wait_for(lambda: not ward.findings(), instead=ward.findings)
    ward.calm()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_recovery_page_has_the_form_of_the_others(page: Path) -> None:
    text = page.read_text()
    assert text.startswith("# Recovery: ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["When", "Look", "Mend", "Check"]


def test_every_recovery_page_is_followed_below() -> None:
    here = Path(__file__).read_text()
    assert [page.stem for page in PAGES if f'"{page.stem.removeprefix("recovery-")}"' not in here] == []


def meanwhile(act: Callable[[], None]) -> threading.Thread:
    """Something that happens in the cluster while the page is followed."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def plugin_daemon_set(name: str) -> dict[str, Any]:
    labels = {"app": name}
    pod = {"containers": [{"name": "plugin", "image": "x:1"}], "terminationGracePeriodSeconds": 0}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "gpu-operator"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }


def offer(ward: Ward, shares: str) -> None:
    shown = {"nvidia.com/gpu": shares}
    ward.patch(f"/api/v1/nodes/{NODE}/status", {"status": {"capacity": shown, "allocatable": shown}})


def test_the_device_plugin_is_restarted(ward: Ward) -> None:
    """The operator's plugin is a DaemonSet whose container does nothing here; its part is played."""
    plugin = "nvidia-device-plugin-daemonset"
    assert ward.run("kubectl create namespace gpu-operator").returncode == 0
    ward.cluster.create(plugin_daemon_set(plugin), field_manager="operator")
    offer(ward, "4")

    def offers_again() -> None:
        path = f"/apis/apps/v1/namespaces/gpu-operator/daemonsets/{plugin}"
        wait_for(lambda: "restartedAt" in str(ward.lab.api().get(path)["spec"]["template"]))
        offer(ward, "8")

    player = meanwhile(offers_again)
    try:
        assert "shares-differ" in follow(ward, "device-plugin")
        player.join(60)
    finally:
        ward.run("kubectl delete namespace gpu-operator --wait=false")
    well(ward)


def test_a_node_that_registered_again_gets_its_number(ward: Ward) -> None:
    ward.lab.node_reregister(NODE)
    shown = follow(ward, "node-reregister")
    assert "capacity-missing" in shown
    well(ward)


def test_a_lost_gpus_node_is_drained_and_comes_back(ward: Ward) -> None:
    before = {pod["metadata"]["uid"] for pod in ward.pods("llama-cpp")}
    shown = follow(ward, "gpu-lost")
    assert f"node/{NODE} cordoned" in shown
    assert f"node/{NODE} uncordoned" in shown
    well(ward)
    assert not before & {pod["metadata"]["uid"] for pod in ward.pods("llama-cpp")}


def test_a_tenant_out_of_memory_gets_room_and_starts_anew(ward: Ward) -> None:
    before = {pod["metadata"]["uid"] for pod in ward.pods("llama-cpp")}
    shown = follow(ward, "cuda-oom")
    assert "tenant immich-server: Deployment immich/immich-server: released from 1 replicas" in shown
    assert "tenant immich-server: Deployment immich/immich-server: restored to 1 replicas" in shown
    well(ward)
    assert not before & {pod["metadata"]["uid"] for pod in ward.pods("llama-cpp")}


def test_a_webhook_that_is_down_comes_back(webhook: Ward) -> None:
    """Its leader and the endpoint controller are played; Deployment and configuration are real."""
    assert webhook.run("kubectl -n gpu-system scale deployment/gpu-webhook --replicas=0").returncode == 0
    endpoint(webhook, ready=False)
    shown = follow(webhook, "webhook-down")
    assert "webhook-no-endpoints" in shown
    assert 'mutatingwebhookconfiguration.admissionregistration.k8s.io "gpu-directory-injector" deleted' in shown
    assert "webhook-ca-empty" in shown.split("deleted")[-1]
    endpoint(webhook, ready=True)
    trust(webhook, 60)
    wait_for(lambda: not webhook.findings(), instead=webhook.findings)
