"""The injector has exactly the rights it needs: without any one of them something stops, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kubernetes import client, config

from helpers.domain.admission.rights import injector_rights
from lab.cluster import Lab
from lab.injector import InjectorProcess, grant
from lab.waiting import wait_for
from tests.lab.webhook_scene import HOME, LEASE, Scene

pytestmark = pytest.mark.lab

VERBS = sorted({f"{verb} {right.resource}" for right in injector_rights() for verb in right.verbs})
# Where the log names what is missing, by what is missing.
SAID = {
    "list secrets": ("watch_failed", "secrets"),
    "watch secrets": ("watch_failed", "secrets"),
    "list mutatingwebhookconfigurations": ("watch_failed", "mutatingwebhookconfigurations"),
    "watch mutatingwebhookconfigurations": ("watch_failed", "mutatingwebhookconfigurations"),
    "get secrets": ("certificate_act_failed", "secrets"),
    "create secrets": ("certificate_act_failed", "secrets"),
    "patch secrets": ("certificate_act_failed", "secrets"),
    "get mutatingwebhookconfigurations": ("certificate_act_failed", "mutatingwebhookconfigurations"),
    "patch mutatingwebhookconfigurations": ("certificate_act_failed", "mutatingwebhookconfigurations"),
    "create events": ("event_not_written", "events"),
    "get leases": ("lease_forbidden", "leases"),
    "create leases": ("lease_forbidden", "leases"),
    "patch leases": ("lease_forbidden", "leases"),
}


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        one = Scene(lab, tmp_path, stack)
        one.begin()
        yield one


def test_every_right_is_taken_away_once() -> None:
    assert set(SAID) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_each_right_is_needed_and_its_lack_is_said_and_ends_nothing(verb: str, scene: Scene) -> None:
    if verb in ("get leases", "patch leases"):
        # One that was given up: then reading and writing it is what is needed.
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1}
        scene.api.post(LEASE.rpartition("/")[0], {"metadata": {"name": LEASE.rpartition("/")[2]}, "spec": spec})
    running = scene.injector("injector", wait=False, without=verb)
    scene.configure(running.port)
    event, resource = SAID[verb]
    wait_for(lambda: said(running, event, resource))
    assert running.process.poll() is None


def said(running: InjectorProcess, event: str, resource: str) -> bool:
    return any("cannot" in line["reason"] and resource in line["reason"] for line in running.lines(event))


def test_a_right_that_comes_back_is_used_without_a_restart(scene: Scene) -> None:
    running = scene.injector("injector", wait=False, without="create leases")
    scene.configure(running.port)
    wait_for(lambda: running.lines("lease_forbidden"))
    grant(scene.lab, HOME)
    wait_for(running.ready)


def test_the_right_to_create_a_secret_is_one_to_this_secret_alone(scene: Scene) -> None:
    """Whoever may create any Secret may have a token of any ServiceAccount in the namespace."""
    scene.injector("injector")
    kubeconfig = scene.lab.paths.identities / f"{HOME}.gpumem-injector.kubeconfig"
    with config.new_client_from_config(str(kubeconfig)) as api:
        core = client.CoreV1Api(api)
        for name in ("another", "gpu-webhook-certificate"):
            with pytest.raises(client.ApiException) as error:
                core.create_namespaced_secret(HOME, client.V1Secret(metadata=client.V1ObjectMeta(name=name)))
            assert error.value.status == 403
        with pytest.raises(client.ApiException) as error:
            core.list_namespaced_secret(HOME)
        assert error.value.status == 403
