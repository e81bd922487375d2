"""A real KEDA on the lab: operator and metrics adapter as processes, its CRDs from the pinned module.

With an administrator's rights: KEDA's own Roles are its chart's. Nothing is reached by a Service here,
so an ExternalName stands for the adapter's.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.api import APPLY_PATCH, ApiError
from lab.cluster import Lab
from lab.errors import LabError
from lab.pki import Authority
from lab.ports import free_ports
from lab.toolchain import TOOLS, ToolModule, check_go
from lab.waiting import wait_for

NAMESPACE = "keda"
_PACKAGE = "github.com/kedacore/keda/v2"
# Many minutes to build: on request alone (`python -m lab.prepare --with-keda`).
MODULE = ToolModule(
    "KEDA 2.21.0",
    TOOLS / "keda",
    {"keda-operator": f"{_PACKAGE}/cmd/operator", "keda-adapter": f"{_PACKAGE}/cmd/adapter"},
)
_SCALED_OBJECTS = "/apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects"
_EXTERNAL_METRICS = "v1beta1.external.metrics.k8s.io"


def keda_crds() -> list[dict[str, Any]]:
    """KEDA's CustomResourceDefinitions, as the pinned module carries them.

    Raises:
        LabError: The module cannot be had.
    """
    command = [check_go(), "mod", "download", "-json", _PACKAGE]
    answer = subprocess.run(command, cwd=MODULE.folder, capture_output=True, text=True)
    if answer.returncode != 0:
        raise LabError(f"`{' '.join(command)}` failed: {(answer.stdout + answer.stderr)[-500:]}")
    files = sorted((Path(json.loads(answer.stdout)["Dir"]) / "config/crd/bases").glob("*.yaml"))
    return [document for file in files for document in yaml.safe_load_all(file.read_text()) if document]


@dataclass(frozen=True)
class Keda:
    """A KEDA that is up."""

    lab: Lab

    def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """A ScaledObject; a field that KEDA's schema does not know is refused."""
        metadata = manifest["metadata"]
        path = f"{_SCALED_OBJECTS.format(metadata['namespace'])}/{metadata['name']}"
        query = {"fieldManager": "test", "force": "true", "fieldValidation": "Strict"}
        return self.lab.api().patch(path, dict(manifest), APPLY_PATCH, **query)

    def delete(self, manifest: Mapping[str, Any]) -> None:
        """Takes it away, and waits until KEDA has let go of it."""
        metadata = manifest["metadata"]
        path = f"{_SCALED_OBJECTS.format(metadata['namespace'])}/{metadata['name']}"
        self.lab.api().delete(path)
        wait_for(lambda: not self.lab.api().exists(path))

    def conditions(self, manifest: Mapping[str, Any]) -> dict[str, str]:
        """`{type: status}` of a ScaledObject, `Ready`, `Active`, `Paused` among them."""
        metadata = manifest["metadata"]
        found = self.lab.api().get(f"{_SCALED_OBJECTS.format(metadata['namespace'])}/{metadata['name']}")
        return {one["type"]: one["status"] for one in found.get("status", {}).get("conditions", [])}


@contextmanager
def keda(lab: Lab, tools: Mapping[str, Path]) -> Iterator[Keda]:
    """One that is up, and gone afterwards. `tools`: as `lab.toolchain.built_keda` gives them."""
    api = lab.api()
    for crd in keda_crds():
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
        api.patch(path, crd, APPLY_PATCH, fieldManager="test", force="true")
    with contextlib.suppress(ApiError):
        api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    certificates = _certificates(lab)
    metrics, health, service, plain, secure = free_ports(5)
    environment = {"WATCH_NAMESPACE": "", "POD_NAMESPACE": NAMESPACE, "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE}
    operator = [
        str(tools["keda-operator"]),
        f"--kubeconfig={lab.kubeconfig}",
        f"--metrics-bind-address=127.0.0.1:{metrics}",
        f"--health-probe-bind-address=127.0.0.1:{health}",
        f"--metrics-service-bind-address=127.0.0.1:{service}",
        f"--cert-dir={certificates}",
        "--enable-cert-rotation=false",
    ]
    adapter = [
        str(tools["keda-adapter"]),
        f"--port={plain}",
        f"--secure-port={secure}",
        "--bind-address=127.0.0.1",
        *(f"--{one}-kubeconfig={lab.kubeconfig}" for one in ("authentication", "authorization", "lister")),
        f"--metrics-service-address=127.0.0.1:{service}",
        "--metrics-service-grpc-authority=localhost",
        f"--cert-dir={certificates}",
        f"--client-ca-file={certificates}/ca.crt",
        f"--tls-cert-file={certificates}/tls.crt",
        f"--tls-private-key-file={certificates}/tls.key",
    ]
    try:
        lab.spawn("keda-operator", operator, environment | {"POD_NAME": "keda-operator-0"})
        lab.spawn("keda-adapter", adapter, environment | {"KUBECONFIG": str(lab.kubeconfig)})
        _register(lab, secure)
        yield Keda(lab)
    finally:
        # Before the adapter: an API that does not answer would hold up every deletion of a namespace.
        # By a new client: the server may have closed the old one's idle connection.
        lab.api().delete(f"/apis/apiregistration.k8s.io/v1/apiservices/{_EXTERNAL_METRICS}")
        lab.stop("keda-adapter")
        lab.stop("keda-operator")


def _certificates(lab: Lab) -> Path:
    folder = lab.dir / "keda-certificates"
    folder.mkdir(mode=0o700, exist_ok=True)
    authority = Authority.load(lab.paths.pki, "ca")
    pair = authority.server("keda")
    for source, name in ((authority.cert_path, "ca.crt"), (pair.cert, "tls.crt"), (pair.key, "tls.key")):
        shutil.copy(source, folder / name)
    return folder


def _register(lab: Lab, port: int) -> None:
    api = lab.api()
    service = {"metadata": {"name": "keda-adapter"}, "spec": {"type": "ExternalName", "externalName": "localhost"}}
    api.delete(f"/api/v1/namespaces/{NAMESPACE}/services/keda-adapter")
    api.post(f"/api/v1/namespaces/{NAMESPACE}/services", service)
    group, version = "external.metrics.k8s.io", "v1beta1"
    spec = {
        "group": group,
        "version": version,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "insecureSkipTLSVerify": True,
        "service": {"name": "keda-adapter", "namespace": NAMESPACE, "port": port},
    }
    api.post("/apis/apiregistration.k8s.io/v1/apiservices", {"metadata": {"name": f"{version}.{group}"}, "spec": spec})
    wait_for(lambda: _is_available(lab))


def _is_available(lab: Lab) -> bool:
    found = lab.api().get(f"/apis/apiregistration.k8s.io/v1/apiservices/{_EXTERNAL_METRICS}")
    conditions = {one["type"]: one["status"] for one in found.get("status", {}).get("conditions", [])}
    return conditions.get("Available") == "True"
