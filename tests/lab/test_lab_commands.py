"""`gpumem lab …` as a user runs it, on a lab of its own beside the checkout's other labs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import cluster
from lab.terraform_run import PROJECT
from lab.waiting import wait_for

pytestmark = pytest.mark.lab

NAME = "commands"


def gpumem(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "gpumem"), *arguments, "--lab", NAME]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)


def status() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gpumem("lab", "status", "-o", "json").stdout)
    return found


@pytest.fixture(scope="module")
def up() -> Iterator[subprocess.CompletedProcess[str]]:
    try:
        yield gpumem("lab", "up")
    finally:
        cluster.down(NAME)


def test_up_brings_the_estates_nodes_and_prints_the_kubeconfig(up: subprocess.CompletedProcess[str]) -> None:
    assert up.returncode == 0, up.stderr
    assert up.stdout == f"export KUBECONFIG=.lab/{NAME}/kubeconfig\n"
    shown = status()
    assert {"name", "ready", "kubeconfig", "nodes", "providers"} <= set(shown)
    assert shown["ready"] is True
    assert [node["name"] for node in shown["nodes"]] == ["t4-node"]


def test_machines_come_and_go(up: subprocess.CompletedProcess[str]) -> None:
    assert gpumem("lab", "node", "add", "t4-spare", "--kind", "t4-node").returncode == 0
    wait_for(lambda: {node["name"] for node in status()["nodes"]} == {"t4-node", "t4-spare"})
    assert gpumem("lab", "node", "reregister", "t4-spare").returncode == 0
    assert gpumem("lab", "node", "remove", "t4-spare").returncode == 0
    assert [node["name"] for node in status()["nodes"]] == ["t4-node"]


def test_use_of_a_tenant_without_pods_says_so(up: subprocess.CompletedProcess[str]) -> None:
    result = gpumem("lab", "usage", "set", "frigate", "1200")
    assert result.returncode == 2
    assert "no pod of 'frigate' is running in namespace 'frigate'" in result.stderr


def test_down_ends_it_and_a_second_down_says_that_there_was_none(up: subprocess.CompletedProcess[str]) -> None:
    assert gpumem("lab", "down").stdout == f"lab {NAME!r} is down\n"
    assert gpumem("lab", "down").stdout == f"no lab {NAME!r} was up\n"
    assert status()["ready"] is False
