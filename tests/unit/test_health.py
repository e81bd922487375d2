"""Health: what counts as well, what counts as worse, and probes against real servers."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from helpers.adapters.clock import SystemClock
from helpers.adapters.kubernetes_.commands import connect_commands
from helpers.adapters.kubernetes_.pod_proxy import ProxyProber
from helpers.adapters.probes import DirectProber
from helpers.domain.estate.health import ExecProbe, Health, HttpProbe, Probe, TcpProbe
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant
from helpers.domain.health import PodHealth, ProbeResult, TenantHealth, problems, regressions
from helpers.domain.watchdog.facts import ContainerUse, GpuSample
from helpers.ports.probes import ProbedPod, Prober
from helpers.ports.watchdog_telemetry import ExporterTarget, Scrape
from helpers.services.health import HealthPorts, observe_health
from lab.plain_kubeconfig import write_kubeconfig
from tests.fakes.cluster import FakeCluster
from tests.fakes.exec_server import OUT, STATUS, Send, ended, exec_server
from tests.fakes.http_server import QuietHandler, serving_http
from tests.synth.estates import example

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
POD = ProbedPod("media", "plex-0", "127.0.0.1")


def tenant_with(health: Health | None) -> tuple[Estate, Tenant]:
    estate = example()
    one = estate.tenants[1].model_copy(update={"health": health})
    return estate.model_copy(update={"tenants": (estate.tenants[0], one, *estate.tenants[2:])}), one


def seen(*pods: PodHealth, wanted: int = 1) -> TenantHealth:
    return TenantHealth(tenant="llama-swap", observed_at=NOW, wanted_pods_count=wanted, budget_mib=5000, pods=pods)


def pod(failed: int = 0, used_mib: int | None = 3000) -> PodHealth:
    result = ProbeResult(
        probe="api", tries_count=10, failed_count=failed, slowest_seconds=0.1, failure="status 503" if failed else ""
    )
    return PodHealth(pod="a", probes=(result,), used_mib=used_mib, used_unknown="" if used_mib else "it is silent")


ASKED = Health(probes=(Probe(name="api", http=HttpProbe(port=80)),), max_error_ratio=0.2, min_headroom_mib=500)


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (seen(pod()), {}),
        (seen(pod(failed=2)), {}),
        (seen(pod(failed=3)), {"probe api": "30% of answers failed (20% may): status 503"}),
        (seen(pod(used_mib=4600)), {"headroom": "400 MiB are left of the budget, 500 must be"}),
        (seen(pod(used_mib=None)), {"headroom": "unknown: it is silent"}),
        (seen(pod(), wanted=2), {"pods": "1 of 2 pods run"}),
        (seen(), {"pods": "0 of 1 pods run"}),
    ],
)
def test_what_is_not_well(found: TenantHealth, wrong: dict[str, str]) -> None:
    assert problems(found, tenant_with(ASKED)[1]) == wrong


def test_a_tenant_without_a_block_is_asked_only_for_its_pods() -> None:
    assert problems(seen(pod(failed=9, used_mib=None)), tenant_with(None)[1]) == {}


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        (seen(pod()), seen(pod()), 0),
        (seen(pod()), seen(pod(failed=2)), 0),
        (seen(pod()), seen(pod(failed=5)), 1),
        (seen(pod(failed=5)), seen(pod(failed=5)), 0),
        (seen(pod(failed=5)), seen(pod(failed=6)), 1),
        (seen(pod(failed=5)), seen(pod(failed=3)), 0),
        (seen(pod()), seen(pod(used_mib=4900)), 1),
        (seen(pod()), seen(pod(used_mib=None)), 1),
        (seen(pod()), seen(), 1),
        (seen(pod(), pod(), wanted=3), seen(pod(), wanted=3), 1),
    ],
)
def test_only_what_got_worse_and_is_not_well_is_a_regression(
    before: TenantHealth, after: TenantHealth, worse: int
) -> None:
    assert len(regressions(before, after, tenant_with(ASKED)[1])) == worse


class Answers(QuietHandler):
    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        status = {"/well": 200, "/moved": 302, "/bad": 503}.get(self.path.rpartition("proxy")[2], 404)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_an_http_probe_judges_the_status() -> None:
    with serving_http(Answers) as port:
        prober = DirectProber()

        def ask(path: str, status: int | None = None) -> str:
            return prober.http(HttpProbe(port=port, path=path, status=status), POD, 5)

        assert ask("/well") == ask("/moved") == ask("/bad", 503) == ""
        assert ask("/bad") == f"GET /bad on port {port}: status 503, wanted below 400"
        assert ask("/moved", 200) == f"GET /moved on port {port}: status 302, wanted 200"
    assert "refused" in ask("/well")


def test_a_tcp_probe_connects() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert DirectProber().tcp(TcpProbe(port=port), POD, 5) == ""
    assert "refused" in DirectProber().tcp(TcpProbe(port=port), POD, 5)


def test_a_pod_without_an_address_is_not_well() -> None:
    nowhere = ProbedPod("media", "plex-0", "")
    assert "no address yet" in DirectProber().http(HttpProbe(port=80), nowhere, 5)
    assert "no address yet" in DirectProber().tcp(TcpProbe(port=80), nowhere, 5)


def test_an_answer_that_does_not_come_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        probe = HttpProbe(port=server.getsockname()[1])
        assert "timed out" in DirectProber().http(probe, POD, 0.2)


def test_through_the_api_server_the_same_status_counts(tmp_path: Path) -> None:
    with serving_http(Answers) as port:
        prober = ProxyProber(write_kubeconfig(tmp_path, f"http://127.0.0.1:{port}"))
        assert prober.http(HttpProbe(port=80, path="/well"), POD, 5) == ""
        assert "status 503" in prober.http(HttpProbe(port=80, path="/bad"), POD, 5)
        assert "--via address" in prober.tcp(TcpProbe(port=80), POD, 5)
    assert "through the API server" in prober.http(HttpProbe(port=80, path="/well"), POD, 5)


class OneScrape:
    """An exporter's answer."""

    def __init__(self, scrape: Scrape) -> None:
        self.scrape_given = scrape

    def scrape(self, targets: object) -> tuple[Scrape, ...]:
        return (self.scrape_given,)

    def forget(self, targets: object) -> None:
        """Nothing is kept."""


def world() -> FakeCluster:
    cluster = FakeCluster()
    cluster.add({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "t4"}})
    for name, owner, phase in (
        ("llama-swap-1", "llama-swap", "Running"),
        ("llama-swap-2", "llama-swap", "Failed"),
        ("other-1", "other", "Running"),
    ):
        reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{owner}-abc", "controller": True}
        metadata = {"name": name, "namespace": "llama-cpp", "ownerReferences": [reference]}
        cluster.add(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {**metadata, "labels": {"pod-template-hash": "abc"}},
                "spec": {"nodeName": "t4", "containers": [{"name": "llama-swap"}]},
                "status": {"phase": phase, "podIP": "127.0.0.1"},
            }
        )
    return cluster


def sample(*, ok: bool = True) -> GpuSample:
    uses = (ContainerUse("llama-cpp", "llama-swap-1", "llama-swap", 4200), ContainerUse("x", "other-1", "c", 9))
    return GpuSample("t4", "0", "GPU-0", NOW, ok, 15360, 4300, 10000, pods=uses, error="" if ok else "no driver")


def says_no(send: Send) -> None:
    send(OUT, b"no card\n")
    send(STATUS, ended(9))


def test_every_running_pod_is_asked_and_its_use_is_its_own(tmp_path: Path) -> None:
    with exec_server() as server, serving_http(Answers) as port:
        server.talk = says_no
        probes = (
            Probe(name="api", http=HttpProbe(port=port, path="/well")),
            Probe(name="bad", http=HttpProbe(port=port, path="/bad")),
            Probe(name="card", exec=ExecProbe(command=("nvidia-smi", "-L")), timeout_seconds=60),
        )
        estate, tenant = tenant_with(Health(probes=probes, tries_count=3))
        prober: Prober = DirectProber()
        target = ExporterTarget("t4", "http://127.0.0.1:1/metrics")
        ports = HealthPorts(
            world(),
            prober,
            connect_commands(write_kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}")),
            SystemClock(),
            OneScrape(Scrape(target, (sample(),))),
            frozenset({target}),
        )
        (found,) = observe_health(ports, estate, tenant).pods
    assert found.pod == "llama-swap-1"
    assert found.used_mib == 4200
    assert [(one.probe, one.failed_count, one.tries_count) for one in found.probes] == [
        ("api", 0, 3),
        ("bad", 3, 3),
        ("card", 1, 1),
    ]
    assert found.probes[2].failure == "nvidia-smi: exit status 9 no card"


@pytest.mark.parametrize(
    ("exporter", "why"),
    [
        (None, "no exporter of node t4 was asked"),
        (OneScrape(Scrape(ExporterTarget("t4", "u"), None, "no answer")), "no answer"),
        (OneScrape(Scrape(ExporterTarget("t4", "u"), (sample(ok=False),))), "card t4/0: no driver"),
    ],
)
def test_unknown_use_says_why_and_is_not_zero(exporter: OneScrape | None, why: str, tmp_path: Path) -> None:
    estate, tenant = tenant_with(Health(min_headroom_mib=500))
    commands = connect_commands(write_kubeconfig(tmp_path, "http://127.0.0.1:1"))
    found = observe_health(HealthPorts(world(), DirectProber(), commands, SystemClock(), exporter), estate, tenant)
    assert found.headroom_mib is None
    assert problems(found, tenant)["headroom"].startswith(f"unknown: {why}")
