"""One test's webhook on the lab: the rendered configuration, namespaces, pods, injectors. Not a test itself."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from helpers.adapters.certificates import X509Certificates
from helpers.domain import names
from helpers.domain.admission.certificate_plan import ServingCertificate
from helpers.domain.admission.settings import AdmissionSettings, admission_settings
from helpers.rendering.admission import match_conditions
from helpers.rendering.admission_webhook import Certificates, webhook_objects
from helpers.services.certificates import read_secret, read_trusted
from lab.api import ApiError
from lab.cluster import Lab
from lab.injector import (
    CONFIGURATION,
    InjectorProcess,
    apply_configuration,
    grant,
    injector,
    make_namespace,
    pointed_at,
)
from tests.synth.estates import example

HOME = "gpu-system"
SECRET = f"/api/v1/namespaces/{HOME}/secrets/{names.WEBHOOK_SECRET}"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/{names.INJECTOR_LEASE}"
RUNTIME_CLASS = "/apis/node.k8s.io/v1/runtimeclasses"
TEAM = "webhook-team"
GPU = {"gpu-directories": "nvidia"}


class Scene:
    """What a test looks at and does."""

    def __init__(self, lab: Lab, folder: Path, stack: ExitStack) -> None:
        self.lab, self.folder, self.stack = lab, folder, stack
        self.api = lab.api()
        estate = example()
        assert estate.admission is not None
        self.settings: AdmissionSettings = admission_settings(estate, estate.admission)
        objects = webhook_objects(
            estate, self.settings.to_json(), match_conditions(self.settings), self.settings.excluded_namespaces
        )
        (manifest,) = (item.manifest for item in objects if item.address == "webhook-configuration")
        self.rendered: dict[str, Any] = json.loads(json.dumps(manifest))

    def begin(self) -> None:
        """Namespaces and the RuntimeClass that injected pods name."""
        make_namespace(self.api, HOME)
        make_namespace(self.api, TEAM)
        if not self.api.exists(f"{RUNTIME_CLASS}/nvidia"):
            self.api.post(RUNTIME_CLASS, {"metadata": {"name": "nvidia"}, "handler": "nvidia"})
            self.stack.callback(lambda: self.lab.api().delete(f"{RUNTIME_CLASS}/nvidia"))
        self.clean()
        self.stack.callback(self.clean)

    def clean(self) -> None:
        """Nothing of the webhook is left for the tests that follow."""
        api = self.lab.api()
        for path in (CONFIGURATION, SECRET, LEASE):
            api.delete(path)
        for namespace in (TEAM, "kube-system", HOME):
            for pod in api.get(f"/api/v1/namespaces/{namespace}/pods")["items"]:
                if pod["metadata"]["name"].startswith("webhook-"):
                    path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}"
                    api.delete(path, {"gracePeriodSeconds": 0})

    def configure(self, port: int | None) -> None:
        """The rendered configuration, pointed at a process; None: at its Service, as it is."""
        apply_configuration(self.api, self.rendered if port is None else pointed_at(self.rendered, port))

    def injector(
        self,
        name: str = "injector",
        *options: str,
        port: int | None = None,
        wait: bool = True,
        certificates: Certificates = "self",
        without: str = "",
    ) -> InjectorProcess:
        """A process with its own rights (but `without`)."""
        kubeconfig = grant(self.lab, HOME, certificates=certificates, without=without)
        options = (*options, "--certificates", certificates)
        return self.stack.enter_context(
            injector(
                self.folder, kubeconfig, self.settings, namespace=HOME, name=name, port=port, options=options, wait=wait
            )
        )

    def pod(self, annotations: dict[str, str] | None = None, namespace: str = TEAM) -> dict[str, Any]:
        """Creates one and gives it as it was stored.

        Raises:
            ApiError: it was refused; the text is what kubectl shows.
        """
        metadata = {"generateName": "webhook-", "annotations": annotations or {}}
        spec = {"containers": [{"name": "main", "image": "x:1"}], "nodeSelector": {"nobody": "has-this"}}
        return self.api.post(f"/api/v1/namespaces/{namespace}/pods", {"metadata": metadata, "spec": spec})

    def injected(self) -> bool:
        """Whether an annotated pod is created, with its devices."""
        try:
            pod = self.pod(GPU)
        except ApiError:
            return False
        return has_devices(pod)

    def refusal(self) -> str:
        """What whoever makes an annotated pod reads; empty where it was created."""
        try:
            self.pod(GPU)
        except ApiError as error:
            return str(error)
        return ""

    def others_start(self) -> None:
        """Unannotated pods are created, and pods of system namespaces, annotated or not."""
        assert not has_devices(self.pod())
        assert not has_devices(self.pod(namespace="kube-system"))
        assert not has_devices(self.pod(GPU, namespace="kube-system"))
        assert not has_devices(self.pod(GPU, namespace=HOME))

    def serving(self) -> ServingCertificate | None:
        """The certificate in the Secret, if it is usable."""
        secret = self.api.get(SECRET) if self.api.exists(SECRET) else None
        found = read_secret(secret, X509Certificates())
        return found if isinstance(found, ServingCertificate) else None

    def trusted(self) -> list[set[str]]:
        """The authorities' fingerprints, one set for each webhook."""
        found = read_trusted(self.api.get(CONFIGURATION), X509Certificates())
        return [{one.fingerprint for one in each.authorities} for each in found.values()]


def has_devices(pod: dict[str, Any]) -> bool:
    """Whether the pod mounts the card, in the spec and in its container."""
    paths = {volume.get("hostPath", {}).get("path") for volume in pod["spec"].get("volumes", [])}
    mounts = {mount["mountPath"] for mount in pod["spec"]["containers"][0].get("volumeMounts", [])}
    assert ("/dev/nvidia0" in paths) == ("/dev/nvidia0" in mounts)
    return "/dev/nvidia0" in paths


class Reviewing:
    """Annotated pods are created again and again, through the API server; what fails is remembered."""

    def __init__(self, scene: Scene) -> None:
        self.count = 0
        self.failed: list[str] = []
        self._scene = scene
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stopped.wait(0.05):
            if text := self._scene.refusal():
                self.failed.append(f"{time.time():.2f} {text}")
            self.count += 1

    def stop(self) -> None:
        """No more of them."""
        self._stopped.set()
        self._thread.join()

    def start(self) -> None:
        """Begins."""
        self._thread.start()


@contextmanager
def reviewing(scene: Scene) -> Iterator[Reviewing]:
    """Runs one until the block ends."""
    running = Reviewing(scene)
    running.start()
    try:
        yield running
    finally:
        running.stop()
