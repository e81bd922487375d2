"""What a webhook that is down, expired or away stops: pods that ask for a GPU, no others, and while it lasts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab import cluster
from lab.api import ApiError
from lab.cluster import Lab
from lab.injector import CONFIGURATION, grant
from lab.ports import free_ports
from lab.waiting import wait_for
from tests.lab.webhook_scene import GPU, HOME, SECRET, TEAM, Scene, has_devices, reviewing

pytestmark = pytest.mark.lab

WEBHOOK = "privileged.gpu-webhook.gpumem.io"


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        one = Scene(lab, tmp_path, stack)
        one.begin()
        yield one


@pytest.fixture
def routed(tmp_path: Path) -> Iterator[Scene]:
    """On a lab of its own: without kube-proxy, the other one leaves a Service's address to this machine's network."""
    try:
        with ExitStack() as stack:
            one = Scene(cluster.up("routed", [], tmp_path, print, endpoint_routing=True), tmp_path, stack)
            one.begin()
            yield one
    finally:
        cluster.down("routed", tmp_path)


def test_an_annotated_pod_gets_its_devices_and_others_are_never_sent(scene: Scene) -> None:
    running = scene.injector()
    scene.configure(running.port)
    wait_for(scene.injected)
    pod = scene.pod(GPU)
    assert has_devices(pod)
    assert pod["spec"]["runtimeClassName"] == "nvidia"
    asked = running.metric('gpumem_injector_reviews_total{outcome="changed"}')
    scene.others_start()
    assert running.metric('gpumem_injector_reviews_total{outcome="changed"}') == asked
    assert running.metric('gpumem_injector_reviews_total{outcome="allowed"}') == 0
    with pytest.raises(ApiError, match=rf'webhook "{WEBHOOK}" denied the request: gpu-directories: "nonsense"'):
        scene.pod({"gpu-directories": "nonsense"})


def test_the_injector_owns_nothing_of_the_configuration_but_caBundle(scene: Scene) -> None:  # noqa: N802
    running = scene.injector()
    scene.configure(running.port)
    wait_for(scene.injected)
    fields = {one["manager"]: one["fieldsV1"] for one in scene.api.get(CONFIGURATION)["metadata"]["managedFields"]}
    ours = fields["gpumem-injector"]
    assert list(ours) == ["f:webhooks"]
    assert {json.dumps(each, sort_keys=True) for each in ours["f:webhooks"].values()} == {
        '{".": {}, "f:clientConfig": {"f:caBundle": {}}, "f:name": {}}'
    }
    assert "caBundle" not in json.dumps(fields["gpumem-terraform"])
    before = scene.trusted()
    scene.configure(running.port)  # Terraform applies again
    assert scene.trusted() == before
    assert scene.injected()


def test_a_webhook_that_is_killed_stops_annotated_pods_alone_until_it_is_back(scene: Scene) -> None:
    running = scene.injector()
    scene.configure(running.port)
    wait_for(scene.injected)
    running.kill()
    scene.others_start()
    text = wait_for(scene.refusal)
    assert f'failed calling webhook "{WEBHOOK}"' in text
    assert "connection refused" in text
    scene.injector("successor", port=running.port)
    wait_for(scene.injected)
    scene.others_start()


def test_an_expired_certificate_stops_annotated_pods_alone_until_there_is_a_new_one(scene: Scene) -> None:
    options = ("--lifetime-seconds", "12", "--settle-seconds", "1")
    running = scene.injector("first", *options)
    scene.configure(running.port)
    wait_for(scene.injected)
    # Rotation is held back: the right to write the Secret is taken away.
    grant(scene.lab, HOME, without="patch secrets")
    serving = scene.serving()
    assert serving is not None
    wait_for(lambda: not running.ready())
    assert time.time() >= serving.not_after_at.timestamp() - 1
    # What the two alerts are about.
    assert running.metric("gpumem_injector_ready ") == 0
    shown = running.metric("gpumem_injector_certificate_expiry_timestamp_seconds ")
    assert 0 < shown <= time.time()
    failures = running.lines("certificate_act_failed")
    assert "secrets" in failures[-1]["reason"]
    assert running.process.poll() is None, "it goes on, and says what it lacks"
    # Connections that the API server has open stay open; new ones are refused.
    running.kill()
    again = scene.injector("second", *options, port=running.port, wait=False, without="patch secrets")
    wait_for(lambda: again.lines("certificate_served"))
    assert not again.ready()
    scene.others_start()
    assert "certificate has expired" in wait_for(scene.refusal)
    grant(scene.lab, HOME)
    wait_for(scene.injected)
    assert again.ready()
    assert again.metric("gpumem_injector_ready ") == 1


def test_a_service_without_endpoints_stops_annotated_pods_alone(routed: Scene) -> None:
    """The rendered configuration as it is, with its real Service, on an API server that looks for endpoints."""
    scene = routed
    service = {
        "metadata": {"name": "gpu-webhook"},
        "spec": {"selector": {"app": "gpu-webhook"}, "ports": [{"name": "webhook", "port": 443, "targetPort": 8443}]},
    }
    path = f"/api/v1/namespaces/{HOME}/services"
    scene.api.post(path, service)
    scene.stack.callback(lambda: scene.lab.api().delete(f"{path}/gpu-webhook"))
    scene.configure(None)
    text = wait_for(scene.refusal)
    assert 'no endpoints available for service "gpu-webhook"' in text
    assert f'failed calling webhook "{WEBHOOK}"' in text
    scene.others_start()


def test_a_service_that_is_not_there_stops_annotated_pods_alone(scene: Scene) -> None:
    scene.configure(None)
    assert 'service "gpu-webhook" not found' in wait_for(scene.refusal)
    scene.others_start()


def test_a_deleted_secret_is_made_anew_and_no_review_fails(scene: Scene) -> None:
    running = scene.injector("injector", "--lifetime-seconds", "3600", "--settle-seconds", "2")
    scene.configure(running.port)
    wait_for(scene.injected)
    first = scene.serving()
    assert first is not None
    with reviewing(scene) as pods:
        scene.api.delete(SECRET)
        wait_for(lambda: (now := scene.serving()) is not None and now.fingerprint != first.fingerprint)
        wait_for(lambda: len(running.lines("certificate_served")) == 2)
        time.sleep(1.0)
    assert pods.count > 10
    assert pods.failed == []
    assert all(first.authority.fingerprint in each for each in scene.trusted())


def test_an_emptied_caBundle_is_put_back(scene: Scene) -> None:  # noqa: N802 - the field's name
    running = scene.injector()
    scene.configure(running.port)
    wait_for(scene.injected)
    before = scene.trusted()
    webhooks = scene.api.get(CONFIGURATION)["webhooks"]
    for webhook in webhooks:
        webhook["clientConfig"]["caBundle"] = ""
    scene.api.patch(CONFIGURATION, {"webhooks": webhooks}, fieldManager="somebody")
    wait_for(lambda: scene.trusted() == before)
    wait_for(scene.injected)
    assert running.lines("authorities_trusted")[-1]["reason"] == "an authority in use was missing"
    events = scene.api.get("/api/v1/namespaces/default/events")["items"]
    assert any(event["reason"] == "GpumemAuthoritiesTrusted" for event in events)


def test_a_leader_that_is_killed_while_it_rotates_is_followed_and_no_review_fails(scene: Scene) -> None:
    """Reviews go to the other replica, as they do when a Service takes the dead one out."""
    options = ("--lifetime-seconds", "3600", "--settle-seconds", "6")
    leader = scene.injector("leader", *options)
    port = free_ports(1)[0]
    scene.configure(port)
    follower = scene.injector("follower", *options, port=port)
    wait_for(scene.injected)
    wait_for(leader.leads)
    assert not follower.leads()
    first = scene.serving()
    assert first is not None
    with reviewing(scene) as pods:
        issued = len(leader.lines("certificate_issued"))
        scene.api.delete(SECRET)
        wait_for(lambda: len(leader.lines("certificate_issued")) > issued)
        wait_for(lambda: any(len(each) > 1 for each in scene.trusted()))
        leader.kill()
        assert scene.serving() is None, "it had published, and not yet written"
        wait_for(lambda: (now := scene.serving()) is not None and now.fingerprint != first.fingerprint)
        wait_for(lambda: len(follower.lines("certificate_served")) == 2)
        time.sleep(1.0)
    assert follower.leads()
    assert pods.count > 50
    assert pods.failed == []
    now = scene.serving()
    assert now is not None
    assert all({first.authority.fingerprint, now.authority.fingerprint} <= each for each in scene.trusted())
    assert follower.lines("certificate_rotated")


def test_two_replicas_never_both_write(scene: Scene) -> None:
    options = ("--lifetime-seconds", "12", "--settle-seconds", "1")
    one, other = scene.injector("one", *options), scene.injector("other", *options)
    scene.configure(one.port)
    wait_for(lambda: len(one.lines("certificate_rotated")) + len(other.lines("certificate_rotated")) >= 3)

    def served_by_both() -> set[str]:
        mine, others = ({line["certificate"] for line in each.lines("certificate_served")} for each in (one, other))
        return mine & others

    wait_for(lambda: len(served_by_both()) >= 3)  # one after the other; a slow one may miss one of them
    wait_for(lambda: one.ready() and other.ready())
    writers = [each for each in (one, other) if each.lines("certificate_rotated")]
    assert len(writers) == 1


def test_a_pods_namespace_and_its_level_reach_the_rules(scene: Scene) -> None:
    """hostPath is not allowed in a baseline namespace: the webhook says so before PodSecurity does."""
    running = scene.injector()
    scene.configure(running.port)
    wait_for(scene.injected)
    name = f"{TEAM}-baseline"
    label = {"pod-security.kubernetes.io/enforce": "baseline"}
    scene.api.post("/api/v1/namespaces", {"metadata": {"name": name, "labels": label}})
    scene.stack.callback(lambda: scene.lab.api().delete(f"/api/v1/namespaces/{name}"))
    wait_for(lambda: scene.api.exists(f"/api/v1/namespaces/{name}/serviceaccounts/default"))

    def refused() -> str:
        try:
            scene.pod(GPU, namespace=name)
        except ApiError as error:
            return str(error)
        return ""

    assert 'webhook "baseline.gpu-webhook.gpumem.io" denied' in wait_for(refused)
