"""Latency of the admission webhook: 200 reviews a second for a minute, its certificate rotated in the middle.

The real program against the lab's API server, which keeps its Secret and caBundle; the reviews come from
this process (not the server's), over several kept TLS connections that are replaced every few seconds
and verified by the caBundle of that moment, as an API server does it. Open loop: each review has its
time, and what it waits for counts. Beside it stands what the policy engine adds, by the API server's
own metrics. One JSON line; run: python -m bench.injector
"""

from __future__ import annotations

import argparse
import base64
import gc
import json
import os
import socket
import ssl
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.admission_time import policy_figures
from bench.machine import busy_seconds, cpu_seconds
from helpers.domain import names
from helpers.domain.admission.settings import GPU_SYSTEM_NAMESPACE, AdmissionSettings, admission_settings
from helpers.rendering.admission_webhook import webhook_objects
from helpers.rendering.estate_file import load_estate
from lab import cluster
from lab.api import Api
from lab.injector import (
    CONFIGURATION,
    LOOPBACK,
    InjectorProcess,
    apply_configuration,
    grant,
    injector,
    pointed_at,
)
from lab.ports import free_ports
from lab.waiting import wait_for

REVIEWS_PER_SECOND = 200
CONNECTIONS_COUNT = 8
# An API server's connection lives for minutes; this one shorter, so that many are made while certificates change.
CONNECTION_SECONDS = 5.0
TARGET_P99_MS = 10.0
ANSWER_BOUND_SECONDS = 2.0  # the configuration's timeoutSeconds
LIFETIME_SECONDS, SETTLE_SECONDS = 120.0, 10.0
PATH = "/mutate/privileged"
EXAMPLE = Path(__file__).parent.parent / "gpumem.yaml"


def main() -> int:
    """Measures and prints; 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lab = cluster.up("bench", [], root)
        try:
            figures = measured(lab, root, seconds)
            # From here on the policies are in force, so last.
            figures["policy_engine"] = policy_figures(lab.api(), load_estate(EXAMPLE)[0])
        finally:
            cluster.down("bench", root)
    print(json.dumps(figures))
    wrong = figures["errors"] or not figures["rotations"] or figures["certificates_seen"] < 2
    return int(bool(wrong) or figures["p99_ms"] > TARGET_P99_MS)


def measured(lab: cluster.Lab, root: Path, seconds: int) -> dict[str, Any]:
    """The figures of one run."""
    api, settings = lab.api(), _settings()
    port = free_ports(1)[0]
    kubeconfig = grant(lab, GPU_SYSTEM_NAMESPACE)
    apply_configuration(api, pointed_at(_configuration(settings), port))
    options = ["--lifetime-seconds", str(LIFETIME_SECONDS), "--settle-seconds", str(SETTLE_SECONDS)]
    with injector(root, kubeconfig, settings, namespace=GPU_SYSTEM_NAMESPACE, port=port, options=options) as server:
        wait_for(lambda: server.lines("certificate_served"))
        issued = server.lines("certificate_rotated")[0]
        due_seconds = _at(issued["due_at"]) - time.time()
        # Trusted at the due time, served after it has settled: that shall be the middle.
        time.sleep(max(0.0, due_seconds + SETTLE_SECONDS - seconds / 2))
        before, load_before = rotations(server), os.getloadavg()[0]
        cpu_before, busy_before, own_before = cpu_seconds(server.process.pid), busy_seconds(), time.process_time()
        client = Client(api, port, reviews(settings))
        gc.collect()
        gc.freeze()
        gc.disable()  # of this process; the server's is on
        client.run(seconds)
        cpu_ratio = (cpu_seconds(server.process.pid) - cpu_before) / seconds
        others_ratio = (busy_seconds() - busy_before - time.process_time() + own_before) / seconds - cpu_ratio
        rotated, rss_mib = rotations(server) - before, _rss_mib(server.process.pid)
    ordered = sorted(client.took_ms)
    return {
        "benchmark": "injector",
        "seconds": seconds,
        "reviews": len(ordered),
        "reviews_per_second": round(len(ordered) / seconds, 1),
        "connections": CONNECTIONS_COUNT,
        "handshakes": len(client.handshakes_ms),
        "handshake_p50_ms": _quantile(sorted(client.handshakes_ms), 0.5),
        "handshake_max_ms": round(max(client.handshakes_ms), 2),
        "certificates_seen": len(client.certificates),
        "rotations": rotated,
        "errors": len(client.errors),
        "first_errors": client.errors[:3],
        "p50_ms": _quantile(ordered, 0.5),
        "p99_ms": _quantile(ordered, 0.99),
        "p999_ms": _quantile(ordered, 0.999),
        "max_ms": round(ordered[-1], 2),
        "server_cpu_ratio_of_one_core": round(cpu_ratio, 3),
        "server_rss_mib": rss_mib,
        # The lab's control plane, and whatever else this machine did: what the two had to share it with.
        "others_cpu_ratio_of_one_core": round(others_ratio, 3),
        "load_average": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        "cores": os.cpu_count(),
        "compared_with": {"p99_ms": TARGET_P99_MS, "errors": 0},
    }


@dataclass
class Client:
    """Connections that post reviews at their times, each in a thread; how long each review took, from its time."""

    api: Api
    port: int
    bodies: list[bytes]
    took_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    certificates: set[bytes] = field(default_factory=set)
    handshakes_ms: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._bundle = bundle_of(self.api)
        self._trust = trust_in(self._bundle)
        self._requests = [request(body) for body in self.bodies]

    def run(self, seconds: int) -> None:
        """All reviews of the run."""
        began = time.perf_counter() + 0.5
        connections = [
            threading.Thread(target=self._post, args=(number, began, seconds)) for number in range(CONNECTIONS_COUNT)
        ]
        for thread in connections:
            thread.start()
        while any(thread.is_alive() for thread in connections):
            # As an API server watches the configuration: a second late.
            time.sleep(1.0)
            bundle = bundle_of(self.api)
            if bundle != self._bundle:
                # Made anew each second it would be this client that the reviews wait for.
                self._bundle, self._trust = bundle, trust_in(bundle)

    def _post(self, first: int, began: float, seconds: int) -> None:
        connection: ssl.SSLSocket | None = None
        # Spread, so that they are not all replaced in the same instant for the whole run.
        lifetime_seconds = CONNECTION_SECONDS * (0.5 + first / CONNECTIONS_COUNT)
        until = began + lifetime_seconds
        for number in range(first, seconds * REVIEWS_PER_SECOND, CONNECTIONS_COUNT):
            at = began + number / REVIEWS_PER_SECOND
            time.sleep(max(0.0, at - time.perf_counter()))
            try:
                if connection is None:
                    connection = self._connected(None)
                connection.sendall(self._requests[(number // CONNECTIONS_COUNT) % len(self._requests)])
                answer = received(connection)
                took_ms = 1000 * (time.perf_counter() - at)
                check(answer)
                if time.perf_counter() > until:
                    # Between two reviews: an API server sends one by a connection that is free and never waits here.
                    connection = self._connected(connection)
                    until = time.perf_counter() + lifetime_seconds
            except (OSError, ValueError) as error:
                took_ms = 1000 * (time.perf_counter() - at)
                self.errors.append(f"{type(error).__name__}: {error}")
                connection = None
            self.took_ms.append(took_ms)

    def _connected(self, old: ssl.SSLSocket | None) -> ssl.SSLSocket:
        if old is not None:
            old.close()
        began = time.perf_counter()
        plain = socket.create_connection((LOOPBACK, self.port), timeout=ANSWER_BOUND_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._trust.wrap_socket(plain, server_hostname=LOOPBACK)
        self.handshakes_ms.append(1000 * (time.perf_counter() - began))
        self.certificates.add(connection.getpeercert(binary_form=True) or b"")
        return connection


def request(body: bytes) -> bytes:
    """A whole HTTP request."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def received(connection: ssl.SSLSocket) -> bytes:
    """The body of the next answer, which must be a 200."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += _some(connection)
    head, _, content = got.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
    while len(content) < length:
        content += _some(connection)
    if b" 200" not in lines[0]:
        raise ValueError(f"{lines[0]!r}: {content[:200]!r}")
    return content


def _some(connection: ssl.SSLSocket) -> bytes:
    got = connection.recv(65536)
    if not got:
        raise ConnectionResetError("the server closed the connection before it answered")
    return got


def check(answer: bytes) -> None:
    """An answer of another thing is an error."""
    response = json.loads(answer)["response"]
    if response["uid"] == "changed" and "patch" not in response:
        raise ValueError(f"no patch: {answer[:200]!r}")
    if response["allowed"] != (response["uid"] != "denied"):
        raise ValueError(f"wrong answer: {answer[:200]!r}")


def bundle_of(api: Api) -> str:
    """The configuration's caBundle as it is now."""
    webhooks = api.get(CONFIGURATION)["webhooks"]
    return next(str(one["clientConfig"]["caBundle"]) for one in webhooks if one["clientConfig"]["url"].endswith(PATH))


def trust_in(bundle: str) -> ssl.SSLContext:
    """Trusts what `bundle` holds, as an API server does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=base64.b64decode(bundle).decode())
    return context


def reviews(settings: AdmissionSettings) -> list[bytes]:
    """Half get devices, a quarter is denied, a quarter is let through with a warning."""
    kinds: list[tuple[str, dict[str, str], dict[str, str]]] = [
        ("changed", {settings.annotation: "nvidia"}, {settings.resource: "3k"}),
        ("denied", {settings.annotation: "nonsense"}, {}),
        ("changed", {settings.annotation: "nvidia"}, {}),
        ("allowed", {}, {"nvidia.com/gpu": "1"}),
    ]
    return [json.dumps(_review(*kind)).encode() for kind in kinds]


def _review(uid: str, annotations: dict[str, str], limits: dict[str, str]) -> dict[str, Any]:
    """About as large as a real one: probes, environment, mounts, and who wrote which field."""
    container = {
        "name": "main",
        "image": "registry.example.com/team/model:1.2.3",
        "env": [{"name": f"SETTING_{number}", "value": "x" * 40} for number in range(20)],
        "resources": {"limits": {"cpu": "2", "memory": "4Gi", **limits}},
        "volumeMounts": [{"name": "kube-api-access-x", "mountPath": "/var/run/secrets", "readOnly": True}],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10},
    }
    fields: dict[str, Any] = {f"f:field-{number}": {"f:name": {}, "f:value": {}} for number in range(40)}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "model-6d9f7c8b5-",
            "namespace": "research",
            "labels": {"app": "model", "pod-template-hash": "6d9f7c8b5"},
            "annotations": {"example.com/config": "x" * 64, **annotations},
            "managedFields": [{"manager": "kube-controller-manager", "fieldsV1": fields}],
        },
        "spec": {
            "containers": [container, {**container, "name": "sidecar", "resources": {}}],
            "volumes": [{"name": "kube-api-access-x", "projected": {"sources": []}}],
            "serviceAccountName": "default",
        },
    }
    request = {
        "uid": uid,
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "namespace": "research",
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": pod,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def rotations(server: InjectorProcess) -> int:
    """Certificates that were written into the Secret so far."""
    return int(server.metric('gpumem_injector_certificate_acts_total{act="rotated"}'))


def _settings() -> AdmissionSettings:
    estate, _ = load_estate(EXAMPLE)
    if estate.admission is None:
        raise SystemExit(f"{EXAMPLE} has no block admission")
    return admission_settings(estate, estate.admission)


def _configuration(settings: AdmissionSettings) -> dict[str, Any]:
    estate, _ = load_estate(EXAMPLE)
    # No pod of the lab's own gets into the figures; reviews are posted past the API server.
    condition = {"name": "never", "expression": "false"}
    objects = webhook_objects(estate, settings.to_json(), [condition], settings.excluded_namespaces)
    (manifest,) = (one.manifest for one in objects if one.manifest["metadata"]["name"] == names.WEBHOOK_CONFIGURATION)
    return dict(manifest)


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _quantile(ordered: list[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


def _rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


if __name__ == "__main__":
    raise SystemExit(main())
