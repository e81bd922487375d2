"""Several tenants at once, one object of a rendering, and how doctor and health say what they found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from helpers.apps.cli import __main__ as cli
from helpers.apps.cli import doctor_commands, tenant_commands
from helpers.domain.doctor.finding import Finding, Severity
from helpers.domain.errors import ExitCode
from tests.fakes.cluster import FakeCluster
from tests.synth.estates import EXAMPLE, example

FILE = str(EXAMPLE)
REPLICAS = 2


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """Every tenant's workload; llama-swap's is missing."""
    fake = FakeCluster()
    for tenant in example().tenants:
        if tenant.name != "llama-swap":
            metadata = {"name": tenant.workload.name, "namespace": tenant.namespace}
            spec = {"replicas": REPLICAS, "template": {"spec": {"containers": [{"name": tenant.workload.container}]}}}
            fake.add({"apiVersion": "apps/v1", "kind": tenant.workload.kind, "metadata": metadata, "spec": spec})
    monkeypatch.setattr(tenant_commands, "connect_cluster", lambda *_: fake)
    return fake


def test_several_tenants_are_released_and_restored_at_once(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["release", "frigate", "portal-stt", "-f", FILE]) == ExitCode.OK
    assert capsys.readouterr().out.count("released from 2 replicas") == 2
    assert cli.run(["restore", "frigate", "portal-stt", "-f", FILE]) == ExitCode.OK
    assert capsys.readouterr().out.count("restored to 2 replicas") == 2


def test_one_that_fails_keeps_nobody_else(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["release", "llama-swap", "frigate", "-f", FILE]) == ExitCode.CHECK_FAILED
    shown = capsys.readouterr()
    assert "tenant frigate: StatefulSet frigate/frigate: released" in shown.out
    assert "llama-cpp/llama-swap is not there" in shown.err
    assert "1 of 2 failed: llama-swap" in shown.err


def test_all_batch_tenants_go_and_only_those_that_went_come_back(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["restore", "--all-batch", "-f", FILE]) == ExitCode.OK
    assert capsys.readouterr().out == "tenant immich-server: was not released\n"
    assert cli.run(["release", "--all-batch", "--dry-run", "-f", FILE]) == ExitCode.OK
    assert "dry run: tenant immich-server" in capsys.readouterr().out
    assert cli.run(["release", "--all-batch", "-f", FILE]) == ExitCode.OK
    assert cli.run(["restore", "--all-batch", "-f", FILE]) == ExitCode.OK
    assert "restored to 2 replicas" in capsys.readouterr().out
    assert cli.run(["restore", "immich-server", "-f", FILE]) == ExitCode.CHECK_FAILED


@pytest.mark.parametrize("arguments", [["release"], ["release", "frigate", "--all-batch"], ["restore"]])
def test_somebody_is_named_or_all_batch_tenants_are_meant(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*arguments, "-f", FILE]) == ExitCode.BAD_INPUT
    assert "name one or more TENANTs, or give --all-batch" in capsys.readouterr().err


def test_one_object_of_a_rendering(capsys: pytest.CaptureFixture[str]) -> None:
    only = ["--only", "ConfigMap/nvidia/gpumem-watchdog", "--only", "PriorityClass/gpu-batch"]
    assert cli.run(["render", "--stdout", *only, "-f", FILE]) == ExitCode.OK
    assert capsys.readouterr().out.count("\nkind: ") == 2
    assert cli.run(["render", "--stdout", "--only", "PriorityClass/gpu-bach", "-f", FILE]) == ExitCode.BAD_INPUT
    assert 'did you mean "PriorityClass/gpu-batch"?' in capsys.readouterr().err


FOUND = (
    Finding("capacity-missing", Severity.ERROR, "Node a|b", "it is gone", "write it", "gpumem capacity assert"),
    Finding("taint-twice", Severity.WARNING, "Node c", "twice", "think"),
)


@pytest.mark.parametrize(
    ("found", "code"), [(FOUND, ExitCode.CHECK_FAILED), (FOUND[1:], ExitCode.OK), ((), ExitCode.OK)]
)
@pytest.mark.parametrize("output", ["table", "json", "yaml", "markdown"])
def test_doctor_says_what_it_found_and_only_an_error_fails(
    found: tuple[Finding, ...],
    code: ExitCode,
    output: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor_commands, "connect_cluster", lambda *_: FakeCluster())
    monkeypatch.setattr("helpers.services.doctor.examine", lambda *_: found)
    assert cli.run(["doctor", "-o", output, "-f", FILE]) == code
    shown = capsys.readouterr().out
    if output in ("json", "yaml"):
        read = json.loads(shown) if output == "json" else yaml.safe_load(shown)
        assert [(one["id"], one["severity"]) for one in read] == [(one.id, one.severity.value) for one in found]
    elif not found:
        assert shown == "nothing found (5 tenants, 1 node entries)\n"
    else:
        assert all(one.id in shown and one.evidence in shown and one.fix in shown for one in found)
        assert ("1 error, 1 warning" if len(found) == 2 else "1 warning") in shown


def test_what_takes_long_is_said_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Now:
        """A timer whose time is up at once."""

        def __init__(self, _seconds: float, act: Callable[[], None]) -> None:
            self.start = act
            self.daemon = False

        def cancel(self) -> None:
            """Too late."""

    monkeypatch.setattr("helpers.apps.cli.doctor_commands.threading.Timer", Now)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with doctor_commands._Progress() as progress:
        progress.still(frozenset({"pods", "nodes"}))
        progress.still(frozenset())
    assert capsys.readouterr().err == "still reading: nodes, pods\n"


def test_health_says_which_file_is_no_earlier_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_text("{}")
    assert cli.run(["health", "frigate", "--after", str(tmp_path / "x"), "-f", FILE]) == ExitCode.BAD_INPUT
    assert "gpumem health frigate --before" in capsys.readouterr().err
    assert cli.run(["health", "frigate", "--after", "a", "--before", "b", "-f", FILE]) == ExitCode.BAD_INPUT
    assert "give one of them" in capsys.readouterr().err
