"""Starting and ending labs; nothing stays behind, whatever happens."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import cluster, processes
from lab.cluster import Lab, LabNode
from lab.errors import LabError, LabInputError
from lab.state import LabPaths, load

pytestmark = pytest.mark.lab

BARE = LabNode("one", {}, {}, "bare")
UP = "import sys; from pathlib import Path; from lab import cluster; cluster.up('killed', [], Path(sys.argv[1]))"
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for state in tmp_path.glob(".lab/*"):
        cluster.down(state.name, tmp_path)


def running_in(root: Path) -> list[tuple[int, str]]:
    return [(pid, folder) for pid, folder in processes.marked() if folder.startswith(str(root))]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_down_leaves_no_process_no_port_and_only_logs(root: Path) -> None:
    lab = cluster.up("gone", [BARE], root)
    state = load(lab.paths)
    assert state is not None
    assert all(listens(port) for port in state.ports.values())
    assert stat.S_IMODE(lab.kubeconfig.stat().st_mode) == 0o600
    helper = lab.spawn("napper", ["sleep", "600"])

    assert cluster.down("gone", root)

    assert running_in(root) == []
    assert not processes.alive(helper)
    assert not any(listens(port) for port in state.ports.values())
    assert {entry.name for entry in lab.dir.iterdir()} == {"lock", "logs"}
    assert (lab.paths.logs / "kube-apiserver.log").stat().st_size > 0
    assert not lab.paths.scratch.exists()
    assert not cluster.down("gone", root)


def test_status_tells_the_promised_keys_before_during_and_after(root: Path) -> None:
    before = cluster.status("told", root)
    assert (before["ready"], before["kubeconfig"], before["nodes"]) == (False, None, [])

    lab = cluster.up("told", [BARE], root)
    lab.set_providers("stand-ins")
    during = cluster.status("told", root)
    assert during["name"] == "told"
    assert during["ready"] is True
    assert during["kubeconfig"] == str(lab.kubeconfig)
    assert during["nodes"] == [{"name": "one", "kind": "bare", "ready": True}]
    assert during["providers"] == "stand-ins"

    cluster.down("told", root)
    assert cluster.status("told", root)["ready"] is False


def test_up_on_a_running_lab_says_so_and_changes_nothing(lab: Lab) -> None:
    before = load(lab.paths)
    said: list[str] = []
    cluster.up(lab.name, [], lab.dir.parent.parent, said.append)
    assert load(lab.paths) == before
    assert any("is up already" in line for line in said)


def test_up_on_a_dead_lab_cleans_and_starts_again(root: Path) -> None:
    state = load(cluster.up("dead", [], root).paths)
    assert state is not None
    apiserver = state.process("kube-apiserver")
    assert apiserver is not None
    processes.stop([apiserver])
    assert cluster.status("dead", root)["ready"] is False

    said: list[str] = []
    cluster.up("dead", [], root, said.append)
    assert cluster.status("dead", root)["ready"] is True
    assert any("cleaned up" in line for line in said)
    old_pids = {process.pid for process in state.processes}
    assert old_pids.isdisjoint(pid for pid, _ in running_in(root))


def test_two_labs_run_side_by_side_and_end_apart_even_with_a_damaged_state_file(root: Path) -> None:
    one = cluster.up("one", [], root)
    two = cluster.up("two", [], root)
    one.api().post("/api/v1/namespaces", {"metadata": {"name": "only-in-one"}})
    assert not two.api().exists("/api/v1/namespaces/only-in-one")
    one.paths.state.write_text("{")
    assert cluster.down("one", root)
    assert cluster.status("two", root)["ready"] is True
    assert {folder for _, folder in running_in(root)} == {str(two.dir)}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_after_up_is_killed_half_way(
    root: Path, how: signal.Signals, eventually: Callable[..., Any]
) -> None:
    command = [sys.executable, "-c", UP, str(root)]
    starter = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(PROJECT)}, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: [pid for pid, _ in running_in(root) if pid != starter.pid])
        starter.send_signal(how)
        starter.wait(60)
    finally:
        starter.kill()
        starter.wait()
    if how is signal.SIGKILL:  # nobody was left to clean up: `down` is
        assert running_in(root)
        assert cluster.down("killed", root)
    assert running_in(root) == []
    assert not LabPaths(root, "killed").state.exists()
    assert not LabPaths(root, "killed").scratch.exists()


def test_a_program_that_fails_is_named_with_its_last_words(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "kube-apiserver").write_text("#!/bin/sh\necho no such flag: --bogus >&2\nexit 1\n")
    (assets / "kube-apiserver").chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    with pytest.raises(LabError, match=r"kube-apiserver ended while the lab was starting[\s\S]*no such flag: --bogus"):
        cluster.up("broken", [], root)
    assert running_in(root) == []
    assert cluster.status("broken", root)["ready"] is False


def test_down_spares_a_stranger_that_has_a_remembered_process_id(root: Path) -> None:
    lab = cluster.up("stranger", [], root)
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        text = lab.paths.state.read_text()
        state = load(lab.paths)
        assert state is not None
        scheduler = state.process("kube-scheduler")
        assert scheduler is not None
        lab.paths.state.write_text(text.replace(f'"pid": {scheduler.pid}', f'"pid": {stranger.pid}'))
        cluster.down("stranger", root)
        assert stranger.poll() is None
        assert running_in(root) == []
    finally:
        stranger.kill()
        stranger.wait()


def test_a_helper_runs_as_a_process_of_the_lab(lab: Lab) -> None:
    helper = lab.spawn("napper", ["sleep", "600"])
    assert "napper" in {each["name"] for each in cluster.status(lab.name, lab.dir.parent.parent)["processes"]}
    with pytest.raises(LabInputError, match="runs 'napper' already"):
        lab.spawn("napper", ["sleep", "600"])
    lab.stop("napper")
    assert not processes.alive(helper)


def test_a_lab_that_is_not_up_is_named_with_the_command_that_starts_it(tmp_path: Path) -> None:
    with pytest.raises(LabInputError, match=r"lab 'nowhere' is not up in .*: `gpumem lab up --lab nowhere`"):
        cluster.get("nowhere", tmp_path)
