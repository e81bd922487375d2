"""The parts of a real kubelet's surroundings that need neither root nor containerd."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.domain.estate.model import Estate
from helpers.rendering.estate_file import load_estate
from helpers.rendering.render import render
from lab.errors import LabError
from lab.fake_nvml.build import LIBRARY
from lab.programs import NoProgram
from lab.real_kubelet import footprint as footprint_module
from lab.real_kubelet import images, preconditions, software
from lab.real_kubelet.configuration import containerd_config, kubelet_config
from lab.real_kubelet.driver import DriverOfProcesses, first_process
from lab.real_kubelet.footprint import clear_leftover, footprint
from lab.real_kubelet.forward import Forward, serve
from lab.real_kubelet.software import Software, find_software

FOLDER = Path("/var/lib/somewhere")
SOFTWARE = Software(Path("/p/containerd"), Path("/p/runc"), Path("/p/cni"), Path("/p/busybox"))
IMAGE = "registry.example.com/gpumem:0.1.0"


@pytest.fixture(scope="module")
def estate() -> Estate:
    return load_estate(images.PROJECT / "gpumem.yaml")[0]


def test_an_image_is_one_layer_whose_digest_its_configuration_names(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    images.write_image(path, IMAGE, {"bin/sh": b"program"}, {"PATH": "/bin"}, waits=True)
    with tarfile.open(path) as archive:
        members = {name: _content(archive, name) for name in archive.getnames()}
    (manifest,) = json.loads(members["manifest.json"])
    assert manifest["RepoTags"] == [IMAGE]
    config = json.loads(members[manifest["Config"]])
    (layer,) = manifest["Layers"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(members[layer]).hexdigest()}"]
    assert config["config"]["Env"] == ["PATH=/bin"]
    assert config["config"]["Cmd"][0] == "/bin/sleep"


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def test_the_helpers_image_starts_this_python_and_has_the_drivers_library(tmp_path: Path) -> None:
    (tmp_path / "busybox").write_bytes(b"static")
    (tmp_path / LIBRARY).write_bytes(b"library")
    files = images.helper_files(tmp_path / "busybox", tmp_path)
    assert files["bin/gpumem"].decode().splitlines()[1] == f'exec {sys.executable} -m helpers.apps.cli "$@"'
    assert files[f"opt/nvml/{LIBRARY}"] == b"library"
    assert images.helper_environment()["LD_LIBRARY_PATH"] == "/opt/nvml"


def test_no_visible_folder_lies_in_another_and_all_are_there() -> None:
    folders = [Path(folder) for folder in images.visible_folders()]
    assert all(folder.is_dir() for folder in folders)
    assert [(a, b) for a in folders for b in folders if a != b and a.is_relative_to(b)] == []
    for needed in (sys.base_prefix, sys.prefix, str(images.PROJECT)):
        assert any(Path(needed).is_relative_to(folder) for folder in folders), needed


def test_the_machine_is_added_to_helper_pods_alone_and_nothing_else_is_changed(estate: Estate, tmp_path: Path) -> None:
    seen = set()
    for item in render(estate).objects:
        before = copy.deepcopy(dict(item.manifest))
        after = images.with_this_machine(item.manifest, estate.image.reference(), tmp_path)
        assert item.manifest == before, "the rendering itself must stay as it is"
        if after != before:
            seen.add(item.kind)
            assert _without_machine(after) == before
    assert seen == {"DaemonSet", "Deployment", "CronJob"}


def _without_machine(value: Any) -> Any:
    """The manifest without what was added; what was added is read-only."""
    if isinstance(value, dict):
        return {key: _without_machine(part) for key, part in value.items()}
    if not isinstance(value, list):
        return value
    added = [one for one in value if isinstance(one, dict) and str(one.get("name", "")).startswith("machine-")]
    assert all("hostPath" in one or one["readOnly"] is True for one in added)
    return [_without_machine(one) for one in value if one not in added]


def test_containerd_keeps_to_its_folder_and_knows_the_rendered_runtime_class(estate: Estate) -> None:
    config = tomllib.loads(containerd_config(FOLDER, SOFTWARE))
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    runtimes = cri["containerd"]["runtimes"]
    for path in (config["root"], config["state"], config["grpc"]["address"], runtimes["runc"]["options"]["Root"]):
        assert Path(path).is_relative_to(FOLDER)
    assert estate.runtime_class.handler in runtimes
    assert cri["restrict_oom_score_adj"] is True


def test_the_kubelet_answers_on_loopback_and_only_to_those_who_prove_who_they_are() -> None:
    config = kubelet_config(FOLDER, FOLDER / "logs", Path("/ca.crt"), (20001, 20002))
    assert (config["address"], config["port"], config["healthzPort"]) == ("127.0.0.1", 20001, 20002)
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["readOnlyPort"] == 0


def test_without_root_the_reason_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert preconditions.why_not() == "a real kubelet needs root"


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(preconditions, "find_software", lambda: SOFTWARE)
    monkeypatch.setattr(preconditions, "KUBELET_PATH", str(machine / "kubelet"))
    monkeypatch.setattr(preconditions, "FOLDER", machine / "gpumem-node")
    monkeypatch.setattr(preconditions, "cgroup_roots", lambda: [machine / "cgroup"])
    (machine / "cgroup").mkdir()


def test_a_machine_with_a_kubelet_of_its_own_is_left_alone(as_root: None, machine: Path) -> None:
    (machine / "kubelet").mkdir()
    assert "a kubelet of its own" in str(preconditions.why_not())
    assert (machine / "kubelet").is_dir()


def test_a_machine_that_runs_pods_of_its_own_is_left_alone(as_root: None, machine: Path) -> None:
    (machine / "cgroup" / "kubepods").mkdir()
    assert "runs pods of its own" in str(preconditions.why_not())


def test_without_a_cgroup_hierarchy_the_reason_says_so(
    as_root: None, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preconditions, "cgroup_roots", list)
    assert preconditions.why_not() == "no cgroup hierarchy is mounted"


def test_cgroups_that_cannot_be_made_are_the_reason(as_root: None, machine: Path) -> None:
    (machine / "cgroup").rmdir()
    (machine / "cgroup").write_text("no folder")
    assert "cgroups cannot be made" in str(preconditions.why_not())


def test_missing_software_is_the_reason(as_root: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preconditions, "find_software", lambda: NoProgram("containerd", "PATH has no containerd"))
    assert "PATH has no containerd" in str(preconditions.why_not())


def test_the_first_program_that_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "find_program", lambda name, _progress: NoProgram(name, "no network"))
    assert find_software() == NoProgram("containerd", "no network")


@pytest.mark.parametrize(("content", "found"), [(b"\0/lib64/ld-linux-x86-64.so.2\0", False), (b"static", True)])
def test_only_a_busybox_that_needs_no_libraries_is_taken_from_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, found: bool
) -> None:
    program = tmp_path / "busybox"
    program.write_bytes(content)
    monkeypatch.setattr(shutil, "which", lambda _name: str(program))
    assert (software._busybox() == program) is found


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of the test's own in place of the machine's."""
    folder = tmp_path / "gpumem-node"
    monkeypatch.setattr(footprint_module, "FOLDER", folder)
    monkeypatch.setattr(footprint_module, "NOTE", folder / "footprint.json")
    monkeypatch.setattr(footprint_module, "FIXED_PATHS", (str(tmp_path / "theirs"), str(tmp_path / "ours")))
    monkeypatch.setattr(footprint_module, "SHARED_PATH", tmp_path / "shared")
    monkeypatch.setattr(footprint_module, "SYSCTL", tmp_path / "gpumem-node" / "sysctl")
    monkeypatch.setattr(footprint_module, "cgroup_roots", lambda: [tmp_path / "cgroup"])
    return tmp_path


def test_after_a_failure_all_that_was_made_is_gone_and_what_was_there_before_stays(machine: Path) -> None:
    (machine / "theirs").mkdir()

    def fail() -> None:
        with footprint() as folder:
            (folder / "file").touch()
            (machine / "ours").mkdir()
            (machine / "cgroup" / "kubepods" / "pod1").mkdir(parents=True)
            raise RuntimeError("the kubelet broke")

    with pytest.raises(RuntimeError, match="the kubelet broke"):
        fail()
    assert sorted(entry.name for entry in machine.iterdir()) == ["cgroup", "theirs"]
    assert list((machine / "cgroup").iterdir()) == []


def test_what_a_killed_run_left_is_undone_by_its_own_note(machine: Path) -> None:
    for name in ("gpumem-node", "ours", "theirs"):
        (machine / name).mkdir()
    (machine / "gpumem-node" / "footprint.json").write_text(
        json.dumps({"absent": [str(machine / "ours")], "kernel": {}})
    )
    clear_leftover()
    assert [entry.name for entry in machine.iterdir()] == ["theirs"]


def test_the_kernels_settings_are_put_back_as_they_were(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = machine / "kernel" / "panic"
    setting.parent.mkdir()
    setting.write_text("1\n")
    monkeypatch.setattr(footprint_module, "SYSCTL", machine)
    with footprint():
        setting.write_text("10\n")
    assert setting.read_text() == "1\n"


@pytest.mark.parametrize("others_notes", [False, True])
def test_a_folder_that_others_may_use_goes_only_where_it_is_empty(machine: Path, others_notes: bool) -> None:
    shared = machine / "shared"
    with footprint():
        shared.mkdir()
        if others_notes:
            (shared / "utab").write_text("theirs")
    assert shared.exists() is others_notes


def test_a_second_node_on_the_same_machine_is_refused_and_the_first_keeps_its_folder(machine: Path) -> None:
    with footprint() as folder:
        with pytest.raises(LabError, match="another lab has a real kubelet"):
            clear_leftover()
        assert folder.is_dir()


@contextlib.contextmanager
def _sleeping() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_process_that_ended_holds_no_memory_any_more(tmp_path: Path) -> None:
    driver = DriverOfProcesses(tmp_path, "GPU-0", 15360, 400, "Tesla T4")
    with _sleeping() as process:
        driver.held_mib[process.pid] = 1000
        driver.refresh()
        assert f"proc 0 C {process.pid} {1000 << 20}" in (tmp_path / "state").read_text()
    driver.refresh()
    assert "proc" not in (tmp_path / "state").read_text()
    assert driver.held_mib == {}


@pytest.mark.parametrize("container_id", ["containerd://no-such-container", ""])
def test_a_container_without_processes_is_an_error(container_id: str) -> None:
    with pytest.raises(LabError, match="no process of container"):
        first_process(container_id)


@pytest.mark.parametrize(("allowed", "answer"), [("127.0.0.0/8", b"ping"), ("10.0.0.0/8", b"")])
def test_connections_are_passed_on_for_pods_and_for_nobody_else(tmp_path: Path, allowed: str, answer: bytes) -> None:
    assert asyncio.run(_asked(tmp_path / "forward.json", allowed)) == answer


async def _asked(settings: Path, allowed: str) -> bytes:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(4))
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as target:
        port = await _free_port()
        Forward("127.0.0.1", port, target.sockets[0].getsockname()[1], allowed).write(settings)
        serving = asyncio.create_task(serve(Forward.read(settings)))
        try:
            return await asyncio.wait_for(_ask(port), 20)
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


async def _ask(port: int) -> bytes:
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
    with contextlib.suppress(ConnectionError):
        writer.write(b"ping")
        await writer.drain()
        try:
            return await reader.read(4)
        finally:
            writer.close()
    return b""


async def _free_port() -> int:
    probe = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port: int = probe.sockets[0].getsockname()[1]
    probe.close()
    await probe.wait_closed()
    return port


def test_inotify_instances_are_counted_and_given_back() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert preconditions.inotify_room(3) in range(4)
    assert preconditions.inotify_room(0) == 0
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_machine_whose_inotify_instances_are_used_up_runs_no_kubelet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preconditions, "inotify_room", lambda _: 5)
    assert preconditions._inotify() == (
        "only 5 inotify instances are free for this user, and a lab with a kubelet takes up to 40"
    )
