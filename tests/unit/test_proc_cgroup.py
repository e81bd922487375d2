"""The host's proc tree, read from one that the lab writes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from helpers.adapters.proc_cgroup import HostProc
from helpers.domain.telemetry.reading import Failure, TelemetryError
from lab.fake_nvml.host_proc import HostProcess, HostProcTree
from tests.fakes.telemetry import cgroup_v2, uid

LISTED_AT = 1000.0


def test_a_process_is_known_by_name_and_cgroup(tmp_path: Path) -> None:
    HostProcTree(tmp_path).write([HostProcess(10, cgroup_v2(1), "vllm")])
    found = HostProc(tmp_path).look_up({10: LISTED_AT})[10]
    assert (found.comm, found.membership.places[0].pod_uid) == ("vllm", uid(1))


def test_a_name_with_spaces_and_parentheses_does_not_shift_the_start_time(tmp_path: Path) -> None:
    HostProcTree(tmp_path).write([HostProcess(10, cgroup_v2(1), "Plex (Trans) 1 2", started_ticks=7)])
    assert HostProc(tmp_path).look_up({10: LISTED_AT})[10].comm == "Plex (Trans) 1 2"


def test_a_process_that_ended_is_absent_and_the_others_stay(tmp_path: Path) -> None:
    HostProcTree(tmp_path).write([HostProcess(10, cgroup_v2(1))])
    assert HostProc(tmp_path).look_up({10: LISTED_AT, 11: LISTED_AT}).keys() == {10}


def test_a_pid_given_to_another_process_after_it_was_listed_is_not_that_process(tmp_path: Path) -> None:
    proc, tree = HostProc(tmp_path), HostProcTree(tmp_path)
    tree.write([HostProcess(10, cgroup_v2(1), started_ticks=100)])
    assert proc.look_up({10: LISTED_AT})
    tree.write([HostProcess(10, cgroup_v2(2), started_ticks=int(LISTED_AT) * 1000)])
    assert proc.look_up({10: LISTED_AT}) == {}


def test_a_reused_pid_is_looked_up_anew_and_not_remembered_as_the_old_one(tmp_path: Path) -> None:
    proc, tree = HostProc(tmp_path), HostProcTree(tmp_path)
    tree.write([HostProcess(10, cgroup_v2(1), started_ticks=100)])
    proc.look_up({10: LISTED_AT})
    tree.write([HostProcess(10, cgroup_v2(2), started_ticks=200)])
    assert proc.look_up({10: LISTED_AT})[10].membership.places[0].pod_uid == uid(2)


def test_a_process_outside_pods_is_read_anew_because_a_runtime_may_still_move_it(tmp_path: Path) -> None:
    proc, tree = HostProc(tmp_path), HostProcTree(tmp_path)
    tree.write([HostProcess(10, "0::/system.slice/containerd.service\n")])
    assert proc.look_up({10: LISTED_AT})[10].membership.places == ()
    tree.write([HostProcess(10, cgroup_v2(1))])
    assert proc.look_up({10: LISTED_AT})[10].membership.places[0].pod_uid == uid(1)


def test_what_is_forgotten_is_read_again(tmp_path: Path) -> None:
    proc, tree = HostProc(tmp_path), HostProcTree(tmp_path)
    tree.write([HostProcess(10, cgroup_v2(1))])
    proc.look_up({10: LISTED_AT})
    proc.forget_others([])
    (tmp_path / "10" / "cgroup").write_text(cgroup_v2(2))
    assert proc.look_up({10: LISTED_AT})[10].membership.places[0].pod_uid == uid(2)


def test_a_tree_that_cannot_be_read_is_a_fault_and_not_an_empty_machine(tmp_path: Path) -> None:
    (tmp_path / "10" / "stat").mkdir(parents=True)
    with pytest.raises(TelemetryError, match=r"mount the host's proc tree") as caught:
        HostProc(tmp_path).look_up({10: LISTED_AT})
    assert caught.value.fault.failure is Failure.PROC_UNREADABLE


@pytest.mark.parametrize(
    ("shown", "parent"),
    [
        ("/../..", "kubepods.slice/kubepods-burstable.slice"),
        ("/../../..", "kubepods.slice"),
    ],
)
def test_a_path_relative_to_the_reader_is_made_whole_by_the_hosts_hierarchy(
    tmp_path: Path, shown: str, parent: str
) -> None:
    whole = cgroup_v2(1).strip().removeprefix("0::")
    own = "/".join(whole.split("/")[-2:])
    (tmp_path / "cgroup" / parent / own).mkdir(parents=True)
    HostProcTree(tmp_path / "proc").write([HostProcess(10, f"0::{shown}/{own}\n")])
    found = HostProc(tmp_path / "proc", tmp_path / "cgroup").look_up({10: LISTED_AT})[10]
    assert found.membership.places[0].path == f"/{parent}/{own}"
    alone = HostProc(tmp_path / "proc").look_up({10: LISTED_AT})[10]
    assert alone.membership.places[0].path == f"{shown}/{own}"


def test_this_very_process_is_found_in_the_real_tree() -> None:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    found = HostProc(Path("/proc")).look_up({os.getpid(): now})[os.getpid()]
    assert found.comm == Path("/proc/self/comm").read_text().strip()


def test_fault_13_a_tree_of_another_pid_namespace_is_recognised(tmp_path: Path) -> None:
    """Limits were silently off for a missing hostPID."""
    HostProcTree(tmp_path).write([])
    assert HostProc(tmp_path).shows_host_pids()
    (tmp_path / "2" / "comm").write_text("bash\n")
    assert not HostProc(tmp_path).shows_host_pids()
    assert not HostProc(tmp_path / "nowhere").shows_host_pids()
