"""`make demo` as a user sees it: its own program, its own output, and the next command that it names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import cluster
from lab.terraform_run import PROJECT
from lab.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.terraform]

LAB = "e2e-demo"
BOUND_SECONDS = 540


def demo(action: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lab.demo", action, "--lab", LAB]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=BOUND_SECONDS)


@pytest.fixture(scope="module")
def shown() -> Iterator[subprocess.CompletedProcess[str]]:
    try:
        yield demo("up")
    finally:
        demo("down")


def gpumem(*arguments: str) -> subprocess.CompletedProcess[str]:
    folder = PROJECT / ".lab" / LAB
    environment = {
        **os.environ,
        "KUBECONFIG": str(folder / "kubeconfig"),
        "GPUMEM_ESTATE": str(folder / "terraform" / "gpumem.yaml"),
    }
    program = str(Path(sys.executable).parent / "gpumem")
    return subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, timeout=BOUND_SECONDS)


def tenants() -> dict[str, dict[str, Any]]:
    report = json.loads(gpumem("report", "--live", "-o", "json").stdout)
    return {row["tenant"]: row for row in report["nodes"][0]["tenants"]}


def test_the_demo_succeeds_and_says_what_it_does(shown: subprocess.CompletedProcess[str]) -> None:
    assert shown.returncode == 0, shown.stderr
    for step in ("embedded cluster", "terraform providers", "apply nvidia", "apply consumers", "armed", "sixth tenant"):
        assert step in shown.stderr
    for command in ("gpumem release portal-stt", "gpumem report --live", "make demo-down"):
        assert command in shown.stdout


def test_a_tenant_that_grows_past_its_budget_is_recycled_once_armed_and_nobody_else_is(
    shown: subprocess.CompletedProcess[str],
) -> None:
    """Field faults 7, 11, 12: found by an alert and not by a person, evicted and not deleted, only the offender."""
    happened = ["GPUVRAMLow fires", "dry run: would recycle immich-ml", "armed", "immich-ml recycled, memory is back"]
    lines = shown.stdout.splitlines()
    found = [next((i for i, line in enumerate(lines) if line.endswith(what)), None) for what in happened]
    assert None not in found, shown.stdout
    assert "free" in lines[found[-1] or 0]
    events = cluster.get(LAB).api().get("/api/v1/events")["items"]
    recycled = {(e["reason"], e["involvedObject"]["name"].rsplit("-", 2)[0]) for e in events if "Recycl" in e["reason"]}
    assert recycled == {
        ("GpumemWouldRecycle", "immich-machine-learning"),
        ("GpumemRecycling", "immich-machine-learning"),
        ("GpumemRecycled", "immich-machine-learning"),
        *((reason, name) for reason, name in recycled if reason == "GpumemNotRecycled"),
    }
    assert (PROJECT / "build" / "demo" / "timeline.svg").read_text().startswith("<svg")


def test_five_tenants_run_and_the_sixth_waits_with_the_schedulers_own_reason(
    shown: subprocess.CompletedProcess[str],
) -> None:
    rows = tenants()
    running = [name for name, row in rows.items() if row["state"]["running_count"] == 1]
    assert sorted(running) == ["frigate", "immich-ml", "immich-server", "llama-swap", "portal-stt"]
    assert rows["whisper"]["state"]["pending_count"] == 1
    assert "Insufficient viktorbarzin.me/gpumem" in rows["whisper"]["state"]["reason"]


def test_the_node_shows_14k(shown: subprocess.CompletedProcess[str]) -> None:
    nodes = cluster.get(LAB).api().get("/api/v1/nodes")["items"]
    assert [node["status"]["allocatable"]["viktorbarzin.me/gpumem"] for node in nodes] == ["14k"]


def test_a_node_that_registers_again_gets_its_number_back(shown: subprocess.CompletedProcess[str]) -> None:
    """Field fault 5: re-asserted hourly, up to an hour of Pending. The watch runs with its own rights."""
    lab = cluster.get(LAB)
    lab.node_reregister("t4-node")

    def number() -> str | None:
        allocatable: dict[str, str] = lab.api().get("/api/v1/nodes/t4-node")["status"]["allocatable"]
        return allocatable.get("viktorbarzin.me/gpumem")

    assert wait_for(number) == "14k"


def test_after_a_release_the_sixth_tenant_runs(shown: subprocess.CompletedProcess[str]) -> None:
    released = gpumem("release", "portal-stt")
    assert released.returncode == 0, released.stderr
    wait_for(lambda: tenants()["whisper"]["state"]["running_count"] == 1)


def test_down_leaves_nothing(shown: subprocess.CompletedProcess[str]) -> None:
    assert demo("down").returncode == 0
    assert not (PROJECT / ".lab" / LAB).exists()
    assert cluster.status(LAB)["ready"] is False
