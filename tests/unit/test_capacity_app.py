"""The app's edges: settings, exit codes, logs, metrics, Events."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest

from helpers.adapters.events import KubernetesEvents
from helpers.adapters.logging_ import JsonLog
from helpers.adapters.metrics import ListenAddress, PrometheusCapacityMetrics, new_registry, served
from helpers.apps.capacity import WatchSettings, read_capacity_settings, run_assert, run_watch
from helpers.apps.cli import __main__ as cli
from helpers.domain import names
from helpers.domain.errors import ExitCode, Forbidden, InputError
from helpers.ports.cluster import ObjectRef
from lab.plain_kubeconfig import write_kubeconfig
from tests.fakes.cluster import FakeCluster
from tests.fakes.outside import FakeClock, FakeLog
from tests.fakes.world import RESOURCE, node, node_ref, settings


def test_the_mounted_document_is_what_the_stack_writes(tmp_path: Path) -> None:
    (tmp_path / "capacity.json").write_text(settings().to_json())
    assert read_capacity_settings(tmp_path / "capacity.json") == settings()


@pytest.mark.parametrize(
    ("text", "named"),
    [("", "Invalid JSON"), ("{}", "resource: Field required"), ('{"resorce": 1}', "resorce: Extra inputs")],
)
def test_a_document_that_is_none_is_named_with_its_key(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "capacity.json"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_capacity_settings(path)
    assert f"capacity settings {path}: " in str(error.value)
    assert named in str(error.value)


def test_a_run_that_failed_never_exits_0_and_its_log_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "capacity.json"
    assert cli.run(["capacity", "assert", "--settings", str(document)]) == ExitCode.BAD_INPUT
    document.write_text(settings().to_json())
    write_kubeconfig(tmp_path, "http://127.0.0.1:1")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    capsys.readouterr()
    assert cli.run(["capacity", "assert", "--settings", str(document)]) == ExitCode.DEPENDENCY
    *_, last = (json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{"))
    assert (last["event"], last["exit_code"]) == ("run_failed", 3)


def test_a_watch_is_told_where_its_lease_lives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "capacity.json"
    document.write_text(settings().to_json())
    assert cli.run(["capacity", "watch", "--settings", str(document)]) == ExitCode.BAD_INPUT
    assert "--namespace" in capsys.readouterr().err


def test_an_assert_logs_its_start_with_settings_and_its_end_with_counters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster = FakeCluster()
    cluster.add(node())
    run_assert(cluster, settings())
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["started", "capacity_set", "capacity_asserted"]
    assert lines[0]["settings"]["nodes"][0]["advertised_mib"] == 14000
    assert lines[2]["set_count"] == 1


def test_a_watch_ends_at_sigterm_with_its_work_done_and_its_lease_given_up() -> None:
    cluster = FakeCluster()
    cluster.add(node())
    cluster.meanwhile.append(lambda: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    run_watch(cluster, settings(), WatchSettings(namespace="nvidia", metrics_address=""))
    assert cluster.now(node_ref())["status"]["capacity"][RESOURCE] == "14k"
    lease = cluster.now(ObjectRef("coordination.k8s.io/v1", "Lease", names.CAPACITY_LEASE, "nvidia"))
    assert lease["spec"]["holderIdentity"] == ""
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_watch_without_the_right_to_its_lease_fails_instead_of_waiting() -> None:
    cluster = FakeCluster()
    cluster.forbid("get", "Lease")
    with pytest.raises(Forbidden, match="cannot get resource Lease"):
        run_watch(cluster, settings(), WatchSettings(namespace="nvidia", metrics_address=""))


def test_a_log_line_is_one_json_object_in_the_order_of_the_house() -> None:
    stream = io.StringIO()
    log = JsonLog("gpumem-capacity", version="1.2", dry_run=True, clock=FakeClock(), stream=stream)
    log.warning("odd_thing", node="gpu-0", at=datetime(2026, 6, 2, tzinfo=UTC), level="mine", text="two\nlines")
    (line,) = stream.getvalue().splitlines()
    written = json.loads(line)
    assert list(written) == ["ts", "level", "event", "component", "version", "dry_run", "node", "at", "text"]
    assert written["ts"] == "2026-06-02T12:00:00.000Z"
    assert written["level"] == "warning"


def test_metrics_are_in_bytes_and_a_lost_node_has_no_series() -> None:
    registry = new_registry("gpumem-capacity", "1.2")
    metrics = PrometheusCapacityMetrics(registry)
    metrics.advertised("gpu-0", 14000)
    metrics.asserted("gpu-0", "set")
    metrics.succeeded(datetime.fromtimestamp(1_700_000_000, UTC))
    of_node = {"node": "gpu-0"}
    assert registry.get_sample_value("gpumem_capacity_advertised_bytes", of_node) == 14000 * 1024 * 1024
    assert registry.get_sample_value("gpumem_capacity_asserts_total", {**of_node, "outcome": "set"}) == 1
    assert registry.get_sample_value("gpumem_capacity_last_success_timestamp_seconds") == 1_700_000_000
    assert registry.get_sample_value("gpumem_build_info", {"component": "gpumem-capacity", "version": "1.2"}) == 1
    metrics.advertised("gpu-0", None)
    metrics.advertised("never-seen", None)
    assert registry.get_sample_value("gpumem_capacity_advertised_bytes", of_node) is None


def test_metrics_and_health_are_served_on_loopback() -> None:
    well = threading.Event()
    well.set()
    with served(new_registry("x", "1"), ListenAddress("127.0.0.1", 0), well.is_set) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert b"gpumem_build_info" in answer.read()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
            assert answer.read() == b"ok\n"
        well.clear()
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz")
        with pytest.raises(InputError, match=f"metrics address 127.0.0.1:{port} cannot be bound"):  # noqa: SIM117
            with served(new_registry("x", "1"), ListenAddress("127.0.0.1", port), well.is_set):
                pass


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9410", "127.0.0.1", 9410),
        (":9410", "0.0.0.0", 9410),  # noqa: S104 - a pod's, asked for
        ("[::1]:0", "::1", 0),
    ],
)
def test_an_address_is_host_and_port(text: str, host: str, port: int) -> None:
    assert ListenAddress.parse(text) == ListenAddress(host, port)


@pytest.mark.parametrize("text", ["9410", "localhost:", "localhost:http", "a:70000"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"is not HOST:PORT"):
        ListenAddress.parse(text)


def test_an_event_on_a_node_lies_where_kubectl_looks_for_it() -> None:
    cluster, log = FakeCluster(), FakeLog()
    events = KubernetesEvents(cluster, component="gpumem-capacity", instance="pod-1", clock=FakeClock(), log=log)
    regarding = cluster.add(node())
    events.record(regarding, "GpumemCapacitySet", "14000 MiB")
    events.record(regarding, "GpumemCapacityRefused", "x" * 3000, event_type="Warning")
    first, second = cluster.list(ObjectRef("v1", "Event", namespace="default"))
    assert first["involvedObject"] == {"apiVersion": "v1", "kind": "Node", "name": "gpu-0", "uid": "uid-1"}
    assert (first["type"], first["reason"], first["message"]) == ("Normal", "GpumemCapacitySet", "14000 MiB")
    assert len(second["message"]) == 1024


def test_an_event_that_may_not_be_written_is_logged_and_the_work_goes_on() -> None:
    cluster, log = FakeCluster(), FakeLog()
    cluster.forbid("create", "Event")
    events = KubernetesEvents(cluster, component="gpumem-capacity", instance="pod-1", clock=FakeClock(), log=log)
    events.record(cluster.add(node()), "GpumemCapacitySet", "14000 MiB")
    assert log.of("event_not_written")[0]["object"] == "Node gpu-0"
