"""The lab ends its own processes and nobody else's; ports and paths."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import processes
from lab.errors import LabError, LabInputError
from lab.ports import free_ports
from lab.state import LabNode, LabPaths, LabState, load, save


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[processes.LabProcess]:
    process = processes.start("sleeper", ["sleep", "600"], lab_dir=tmp_path, log=tmp_path / "log")
    yield process
    processes.stop([process])


def test_a_process_is_found_by_its_mark_and_ended(tmp_path: Path, sleeper: processes.LabProcess) -> None:
    assert (sleeper.pid, str(tmp_path)) in set(processes.marked())
    assert processes.stop_marked(tmp_path / "another") == 0
    assert processes.alive(sleeper)
    assert processes.stop_marked(tmp_path) == 1
    assert not processes.alive(sleeper)


def test_a_later_process_with_the_same_id_is_spared(sleeper: processes.LabProcess) -> None:
    earlier = dataclasses.replace(sleeper, started_ticks=sleeper.started_ticks - 1)
    assert not processes.alive(earlier)
    processes.stop([earlier])
    assert processes.alive(sleeper)


def test_a_process_has_a_session_of_its_own(sleeper: processes.LabProcess) -> None:
    assert os.getsid(sleeper.pid) == sleeper.pid


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"thing .*/no/such/program.* cannot be started"):
        processes.start("thing", ["/no/such/program"], lab_dir=tmp_path, log=tmp_path / "log")


def test_free_ports_are_different_and_not_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ports = free_ports(50)
        assert len(set(ports)) == 50
        assert taken.getsockname()[1] not in ports


def test_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    paths = LabPaths(tmp_path, "a")
    paths.dir.mkdir(parents=True)
    assert load(paths) is None
    state = LabState("a", "ready", {"etcd": 1}, {"etcd": "/bin/etcd"})
    state.processes.append(processes.LabProcess("etcd", 1, 2, "log"))
    state.nodes.append(LabNode("n", {"a": "b"}, {"nvidia.com/gpu": 8}, "bare"))
    save(paths, state)
    assert load(paths) == state


def test_a_damaged_state_file_is_named_with_its_repair(tmp_path: Path) -> None:
    paths = LabPaths(tmp_path, "a")
    paths.dir.mkdir(parents=True)
    paths.state.write_text('{"name": "a"}')
    with pytest.raises(LabError, match=r"state\.json is damaged .* `gpumem lab down --lab a` clears it"):
        load(paths)


@pytest.mark.parametrize("name", ["", "../up", "UP", "a" * 41, "-a"])
def test_a_lab_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LabInputError, match="lower-case letters, digits and inner dashes"):
        LabPaths(tmp_path, name)


def test_the_project_is_found_from_a_folder_inside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpumem.yaml").write_text("")
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert LabPaths(None, "default").dir == tmp_path.resolve() / ".lab" / "default"
