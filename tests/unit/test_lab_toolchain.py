"""Building the cluster's programs, with a stand-in `go` that tells what it was asked."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lab import keda, toolchain
from lab.errors import LabError

FAKE_GO = """#!/bin/sh
if [ "$1" = env ]; then echo {version}; exit 0; fi
echo "$@" >> {log}
{fail}
while [ "$1" != -o ]; do shift; done
shift
target=$1; shift
case "$target" in
  */) for package in "$@"; do echo built > "$target$(basename "$package")"; done ;;
  *) echo built > "$target" ;;
esac
"""


@pytest.fixture
def go_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GPUMEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    write_go(tmp_path, monkeypatch)
    return tmp_path / "go.log"


def write_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str = "go1.26.8", fail: str = "") -> None:
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "go").write_text(FAKE_GO.format(version=version, log=tmp_path / "go.log", fail=fail))
    (folder / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_programs_are_built_once_under_their_own_names(go_log: Path) -> None:
    said: list[str] = []
    tools = toolchain.ensure_tools(said.append)
    assert sorted(tools) == sorted(toolchain.PACKAGES)
    assert all(path.parent == toolchain.tools_folder() and path.is_file() for path in tools.values())
    assert "the first build takes several minutes" in said[0]
    calls = go_log.read_text()
    assert toolchain.ensure_tools(said.append) == tools
    assert go_log.read_text() == calls
    assert [path.name for path in toolchain.tools_folder().parent.iterdir() if path.name.startswith(".build")] == []


def test_a_program_on_request_is_added_to_those_that_are_there(go_log: Path) -> None:
    toolchain.ensure_tools(lambda _: None)
    before = len(go_log.read_text().splitlines())
    assert toolchain.ensure_tools(lambda _: None, ["kubelet"])["kubelet"].is_file()
    (added,) = go_log.read_text().splitlines()[before:]
    assert added.endswith("k8s.io/kubernetes/cmd/kubelet")


def test_keda_is_built_on_request_alone_and_from_its_own_lock(go_log: Path) -> None:
    toolchain.ensure_tools(lambda _: None, ["kubelet"])
    assert "kedacore" not in go_log.read_text()
    assert toolchain.built_module(keda.MODULE) is None
    tools = toolchain.ensure_module(keda.MODULE, lambda _: None)
    assert sorted(tools) == ["keda-adapter", "keda-operator"]
    assert toolchain.built_module(keda.MODULE) == tools
    assert {path.parent for path in tools.values()} == {toolchain.tools_folder(keda.MODULE)}
    assert toolchain.tools_folder(keda.MODULE) != toolchain.tools_folder()


def test_two_builds_at_once_do_the_work_once(go_log: Path) -> None:
    builders = [threading.Thread(target=toolchain.ensure_tools, args=(lambda _: None,)) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert len(go_log.read_text().splitlines()) == 2  # etcd, and all others


def test_given_assets_are_used_and_not_built(go_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    for name in ("etcd", "kube-apiserver", "kube-scheduler"):
        (assets / name).write_text("")
        (assets / name).chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    tools = toolchain.ensure_tools(lambda _: None)
    assert tools["etcd"] == assets / "etcd"
    assert tools["kube-apiserver"] == assets / "kube-apiserver"
    assert tools["kube-scheduler"].parent == toolchain.tools_folder()  # not one of the three that assets hold
    assert "cmd/kube-apiserver" not in go_log.read_text()


def test_assets_that_are_no_folder_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", "/no/such/folder")
    with pytest.raises(LabError, match="KUBEBUILDER_ASSETS is '/no/such/folder', which is no folder"):
        toolchain.ensure_tools(lambda _: None)


def test_no_go_is_one_clear_error(go_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin" / "go").unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(LabError, match=r"PATH has no `go`: install Go 1\.26 or newer"):
        toolchain.ensure_tools(lambda _: None)
    assert not go_log.exists()


@pytest.mark.parametrize("version", ["go1.25.9", "go1.9"])
def test_an_old_go_is_one_clear_error(
    go_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    write_go(tmp_path, monkeypatch, version=version)
    with pytest.raises(LabError, match=rf"is {version}, the lab's programs need go1\.26: install Go"):
        toolchain.ensure_tools(lambda _: None)
    assert not go_log.exists()


def test_a_failed_build_shows_what_go_said_and_leaves_nothing(
    go_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_go(tmp_path, monkeypatch, fail="echo dial tcp: no route >&2; exit 1")
    with pytest.raises(LabError, match=r"failed \(exit 1\):\n.*no route\ncheck the network and the module proxy"):
        toolchain.ensure_tools(lambda _: None)
    assert list(toolchain.tools_folder().iterdir()) == []
