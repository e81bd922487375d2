"""Where cert-manager makes the certificate: our objects under its own schema, and an injector that only reads.

The stand-in in here is `CertManager`: no cert-manager runs, the test writes what it and its injector of
authorities would write. The schema is cert-manager's own, on the real API server.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.domain import names
from helpers.rendering.render import render
from lab.api import APPLY_PATCH, ApiError
from lab.cluster import Lab
from lab.injector import CONFIGURATION
from lab.pki import Authority
from lab.waiting import wait_for
from tests.fixtures.go_modules import go_module
from tests.lab.webhook_scene import GPU, HOME, LEASE, SECRET, Scene, has_devices
from tests.synth.estates import example_on_webhook

pytestmark = pytest.mark.lab

# The module that carries the CRDs.
CERT_MANAGER = "github.com/cert-manager/cert-manager@v1.18.2"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PLURALS = {"Issuer": "issuers", "Certificate": "certificates"}


class CertManager:
    """Signs with one authority, as the rendered Issuer does, and puts that authority into the caBundles."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._authority = Authority.create(scene.folder, "cert-manager")

    def issue(self, name: str) -> None:
        """A new certificate in the Secret that the rendered Certificate names."""
        pair = self._authority.server(name)
        files = {"tls.crt": pair.cert, "tls.key": pair.key, "ca.crt": self._authority.cert_path}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": names.WEBHOOK_SECRET, "namespace": HOME},
            "type": "kubernetes.io/tls",
            "data": {key: base64.b64encode(file.read_bytes()).decode() for key, file in files.items()},
        }
        self._scene.api.patch(SECRET, secret, APPLY_PATCH, fieldManager="cert-manager", force="true")

    def inject_authority(self) -> None:
        """The authority in every caBundle."""
        bundle = base64.b64encode(self._authority.cert_path.read_bytes()).decode()
        webhooks = self._scene.api.get(CONFIGURATION)["webhooks"]
        for webhook in webhooks:
            webhook["clientConfig"]["caBundle"] = bundle
        self._scene.api.patch(CONFIGURATION, {"webhooks": webhooks})


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        one = Scene(lab, tmp_path, stack)
        one.begin()
        yield one


def test_it_waits_for_the_certificate_takes_its_renewal_and_writes_nothing(scene: Scene) -> None:
    running = scene.injector("reader", certificates="cert-manager", wait=False)
    scene.configure(running.port)
    (line,) = wait_for(lambda: running.lines("certificate_awaited"))
    assert line["made_by"] == "cert-manager"
    assert names.WEBHOOK_SECRET in line["secret"]
    assert not running.ready()
    assert running.metric("gpumem_injector_ready ") == 0
    assert running.metric("gpumem_injector_certificate_expiry_timestamp_seconds ") == 0
    scene.others_start()
    maker = CertManager(scene)
    maker.issue("first")
    maker.inject_authority()
    wait_for(scene.injected)
    assert running.ready()
    serving = scene.serving()
    assert serving is not None
    shown = running.metric("gpumem_injector_certificate_expiry_timestamp_seconds ")
    assert shown == serving.not_after_at.timestamp(), "its end is measured, whoever makes it"
    maker.issue("second")
    wait_for(lambda: len(running.lines("certificate_served")) == 2)
    assert has_devices(scene.pod(GPU))
    managers = {one["manager"] for path in (CONFIGURATION, SECRET) for one in managed(scene, path)}
    assert "gpumem-injector" not in managers
    assert not scene.api.exists(LEASE), "who writes nothing need not lead"
    assert not running.lines("certificate_act_failed")
    assert running.process.poll() is None


def managed(scene: Scene, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = scene.api.get(path)["metadata"]["managedFields"]
    return found


@pytest.fixture
def with_crds(scene: Scene, tmp_path: Path) -> Scene:
    folder = go_module(CERT_MANAGER, tmp_path) / "deploy/crds"
    for plural in PLURALS.values():
        crd = yaml.safe_load((folder / f"crd-{plural}.yaml").read_text())
        crd["metadata"] = {"name": crd["metadata"]["name"]}  # the rest is Helm's
        path = f"{CRDS}/{crd['metadata']['name']}"
        scene.api.patch(path, crd, APPLY_PATCH, fieldManager="test", force="true")
        scene.stack.callback(scene.lab.api().delete, path)
        wait_for(partial(established, scene, path))
    return scene


def established(scene: Scene, path: str) -> bool:
    conditions = scene.api.get(path).get("status", {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def dry_run(scene: Scene, manifest: dict[str, Any]) -> dict[str, Any]:
    base = f"/apis/cert-manager.io/v1/namespaces/{HOME}/{PLURALS[manifest['kind']]}"
    query = {"fieldManager": "test", "force": "true", "fieldValidation": "Strict", "dryRun": "All"}
    return scene.api.patch(f"{base}/{manifest['metadata']['name']}", manifest, APPLY_PATCH, **query)


def test_the_rendered_objects_are_what_cert_managers_crds_describe(with_crds: Scene) -> None:
    rendered = [one.manifest for one in render(example_on_webhook("cert-manager")).objects if one.kind in PLURALS]
    manifests = [json.loads(json.dumps(manifest)) for manifest in rendered]
    assert sorted(manifest["kind"] for manifest in manifests) == ["Certificate", "Certificate", "Issuer", "Issuer"]
    for manifest in manifests:
        assert dry_run(with_crds, manifest)["spec"] == manifest["spec"]
        manifest["spec"]["secretname"] = "misspelt"
        with pytest.raises(ApiError, match="secretname"):
            dry_run(with_crds, manifest)
