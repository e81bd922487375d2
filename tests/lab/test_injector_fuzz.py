"""Bad reviews over TLS against the running program: an answer of 2xx or 4xx, never a crash, and no memory kept."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.services.admission_review import OUTCOMES
from lab.cluster import Lab
from lab.injector import LOOPBACK, InjectorProcess
from tests.lab.webhook_scene import Scene

pytestmark = pytest.mark.lab

EXAMPLES = 400
PATH = "/mutate/privileged"
# A long-lived process has its own slack: caches that fill, an allocator that keeps what it once had.
MOST_GROWTH_MIB = 30.0
MIB = 1024 * 1024

FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def or_anything(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what belongs there, sometimes anything: one review in a few is wrong in one place or two."""
    return st.integers(0, 24).flatmap(lambda draw: JSON if draw == 24 else strategy)


NAMES = st.sampled_from(["main", "nvidia0", "", "a/b", "\ud800", "x" * 300])
MOUNTS = st.fixed_dictionaries(
    {"name": or_anything(NAMES), "mountPath": or_anything(st.sampled_from(["/dev/nvidia0"]))}
)
QUANTITIES = st.sampled_from(["3k", "1", "0", "-1", "1e99999", "NaN", "", "9" * 400, "1.5"])
RESOURCES = st.sampled_from(["viktorbarzin.me/gpumem", "nvidia.com/gpu", "cpu"])
CONTAINERS = st.fixed_dictionaries(
    {"name": or_anything(NAMES)},
    optional={
        "volumeMounts": or_anything(st.lists(or_anything(MOUNTS), max_size=3)),
        "resources": or_anything(
            st.fixed_dictionaries({"limits": or_anything(st.dictionaries(RESOURCES, or_anything(QUANTITIES)))})
        ),
        "env": or_anything(st.lists(or_anything(st.fixed_dictionaries({"name": or_anything(NAMES)})), max_size=2)),
    },
)
ANNOTATIONS = st.dictionaries(
    st.sampled_from(["gpu-directories", "gpumem.io/x", ""]),
    or_anything(st.sampled_from(["nvidia", "nvidia:0,1", "nvidia:99", "coral;nvidia", ";;", "nvidia:" + "0," * 500])),
)
PODS = st.fixed_dictionaries(
    {
        "kind": or_anything(st.just("Pod")),
        "metadata": or_anything(
            st.fixed_dictionaries(
                {"annotations": or_anything(ANNOTATIONS)}, optional={"name": or_anything(NAMES), "generateName": JSON}
            )
        ),
        "spec": or_anything(
            st.fixed_dictionaries(
                {"containers": or_anything(st.lists(or_anything(CONTAINERS), max_size=3))},
                optional={
                    "initContainers": or_anything(st.lists(or_anything(CONTAINERS), max_size=2)),
                    "volumes": or_anything(st.lists(or_anything(MOUNTS), max_size=3)),
                    "runtimeClassName": JSON,
                    "nodeSelector": or_anything(st.dictionaries(st.text(max_size=5), SCALARS)),
                },
            )
        ),
    }
)
KINDS = st.sampled_from(
    [{"group": "", "version": "v1", "kind": "Pod"}] * 4 + [{"group": "x", "version": "v9", "kind": "Zeppelin"}]
)
REVIEWS = st.fixed_dictionaries(
    {
        "apiVersion": or_anything(st.sampled_from(["admission.k8s.io/v1"] * 5 + ["admission.k8s.io/v1beta1"])),
        "kind": or_anything(st.sampled_from(["AdmissionReview"] * 5 + ["Pod"])),
        "request": or_anything(
            st.fixed_dictionaries(
                {
                    "uid": or_anything(st.just("705ab4f5")),
                    "kind": or_anything(KINDS),
                    "operation": or_anything(st.sampled_from(["CREATE"] * 5 + ["UPDATE", "CONNECT"])),
                    "namespace": or_anything(st.sampled_from(["research", "kube-system", ""])),
                    "object": or_anything(PODS),
                }
            )
        ),
    }
)


class Attacker:
    """One client of the running program."""

    def __init__(self, running: InjectorProcess, authority_pem: str) -> None:
        self.running = running
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.load_verify_locations(cadata=authority_pem)
        self._kept: http.client.HTTPSConnection | None = None

    def send(
        self, body: bytes, method: str = "POST", path: str = PATH, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        """Status and content of the answer, which must come."""
        if self._kept is None:
            self._kept = http.client.HTTPSConnection(LOOPBACK, self.running.port, timeout=30, context=self._context)
        try:
            self._kept.request(method, path, body, {"Content-Type": content_type})
            answer = self._kept.getresponse()
            content = answer.read()
        except BaseException:
            self._kept.close()
            self._kept = None
            raise
        return answer.status, content

    def fair(self, body: bytes, **how: str) -> int:
        """Sends; the answer is a denial, a patch or a 4xx, and the process lives."""
        status, content = self.send(body, **how)
        assert status == 200 or 400 <= status < 500, (status, content[:300])
        if status == 200:
            response = json.loads(content)["response"]
            assert isinstance(response["uid"], str)
            assert response["allowed"] or response["status"]["message"]
        assert self.running.process.poll() is None
        return status

    def rss_mib(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.running.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MIB


@pytest.fixture(scope="module")
def attacker(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacker]:
    with ExitStack() as stack:
        scene = Scene(lab, tmp_path_factory.mktemp("fuzz"), stack)
        scene.begin()
        running = scene.injector()
        serving = scene.serving()
        assert serving is not None
        yield Attacker(running, serving.authority.pem)
        assert running.lines("unexpected") == []
        # It came as far as the rules, and past them in every way.
        counts = {each: running.metric(f'gpumem_injector_reviews_total{{outcome="{each}"}}') for each in OUTCOMES}
        assert all(counts.values()), counts


@FUZZ
@given(REVIEWS)
def test_reviews_that_are_nearly_right(attacker: Attacker, document: Any) -> None:
    attacker.fair(json.dumps(document).encode())


@FUZZ
@given(st.binary(max_size=2000))
def test_bytes_that_mean_nothing(attacker: Attacker, content: bytes) -> None:
    assert attacker.fair(content) == 400


@FUZZ
@given(st.data())
def test_a_review_with_bytes_changed(attacker: Attacker, data: st.DataObject) -> None:
    content = bytearray(json.dumps(data.draw(REVIEWS)).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    attacker.fair(bytes(content))


@FUZZ
@given(
    st.sampled_from(["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "POST"]),
    st.sampled_from(
        [PATH, "/mutate/other", "/", "/mutate/privileged/", "/%2e%2e/etc/passwd", "/metrics", f"{PATH}?a=%ff"]
    ),
    st.sampled_from(["application/json", "text/plain", "application/yaml", "", "application/vnd.kubernetes.protobuf"]),
)
def test_wrong_methods_paths_and_types(attacker: Attacker, method: str, path: str, content_type: str) -> None:
    status, _ = attacker.send(b"{}", method, path, content_type)
    assert 400 <= status < 500


@pytest.mark.parametrize("depth", [100, 900, 5_000, 200_000])
@pytest.mark.parametrize("place", ["body", "spec", "annotation", "kind", "name"])
def test_deep_nesting(attacker: Attacker, depth: int, place: str) -> None:
    deep = "[" * depth + "]" * depth
    name = deep if place == "name" else '"x"'
    annotation = deep if place == "annotation" else '"nvidia"'
    containers = deep if place == "spec" else '[{"name":"main"}]'
    metadata = f'{{"name":{name},"annotations":{{"gpu-directories":{annotation}}}}}'
    pod = f'{{"kind":"Pod","metadata":{metadata},"spec":{{"containers":{containers}}}}}'
    kind = deep if place == "kind" else '{"group":"","version":"v1","kind":"Pod"}'
    head = '{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE",'
    review = f'{head}"namespace":"research","kind":{kind},"object":{pod}}}}}'
    attacker.fair((deep if place == "body" else review).encode())


def test_a_hundred_bodies_of_three_mebibytes_leave_nothing_behind(attacker: Attacker) -> None:
    note = "x" * (3 * MIB - 2000)
    pod = {"kind": "Pod", "metadata": {"annotations": {"a": note}}, "spec": {"containers": [{"name": "main"}]}}
    request = {"uid": "u", "operation": "CREATE", "namespace": "research", "object": pod}
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {**request, "kind": kind}}
    large = json.dumps(review).encode()
    assert attacker.fair(large) == 200
    for _ in range(5):
        attacker.fair(large)
        attacker.fair(b"[" * (3 * MIB))
    before = attacker.rss_mib()
    for _ in range(50):
        assert attacker.fair(large) == 200
        assert attacker.fair(b"[" * (3 * MIB)) == 400
    assert attacker.rss_mib() - before < MOST_GROWTH_MIB


def test_memory_is_flat_over_thousands_of_bad_reviews(attacker: Attacker) -> None:
    pods = [
        {"kind": "Pod", "metadata": {"annotations": {"gpu-directories": word}}, "spec": {"containers": containers}}
        for word in ("nonsense", "nvidia")
        for containers in ("no containers", [{"name": "main"}])
    ]
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    request = {"operation": "CREATE", "namespace": "research", "kind": kind}
    document = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    bodies = [
        json.dumps({**document, "request": {**request, "object": pods[n % 4], "uid": f"u-{n}"}}).encode()
        for n in range(100)
    ]
    bodies += [b"", b"{", b"null", b'{"kind": "AdmissionReview"}']
    for body in bodies:
        attacker.fair(body)
    before = attacker.rss_mib()
    for _ in range(30):
        for body in bodies:
            attacker.fair(body)
    assert attacker.rss_mib() - before < MOST_GROWTH_MIB


def test_five_mebibytes_are_refused_by_their_length(attacker: Attacker) -> None:
    assert attacker.fair(b"x" * (5 * MIB)) == 413
