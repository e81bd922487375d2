"""Finding a program: on PATH, unpacked from a package, or a reason why not. apt-get is a script of the test's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.programs import PROGRAMS, NoProgram, Program, Wanted, find_program, require_program

WANTED = {"meter": Wanted(("meter", "old-meter"), "meter-tools", ("usr/bin/meter",), least_version=(2, 4))}

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not on PATH: no Debian machine")


@pytest.fixture
def path_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own PATH (the machine's shell tools behind it) and an own cache."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "cat", "cp", "touch", "test"):
        (folder / tool).symlink_to(str(shutil.which(tool)))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("GPUMEM_CACHE", str(tmp_path / "cache"))
    return folder


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def archive(tmp_path: Path, version: str) -> Path:
    """A real package with a program of that version."""
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: meter-tools\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.com>\nDescription: test\n"
    )
    script(tree / "usr/bin/meter", f"echo meter, version {version}+ds")
    built = tmp_path / "meter-tools.deb"
    build = ["/usr/bin/dpkg-deb", "--build", str(tree), str(built)]
    subprocess.run(build, check=True, capture_output=True, env={"PATH": "/usr/bin:/bin"})
    return built


def apt(folder: Path, tmp_path: Path, deb: Path, *, lists_are_stale: bool = False) -> Path:
    """An apt-get that writes down how it was called and puts `deb` where it is told to."""
    calls = tmp_path / "calls"
    refuse = 'case "$*" in *Dir::State::lists=*) ;; *) echo "E: 404 Not Found" >&2; exit 100;; esac'
    script(
        folder / "apt-get",
        f"""echo "$*" >> {calls}
case "$*" in *update) exit 100;; esac
{refuse if lists_are_stale else ""}
for word; do case "$word" in Dir::Cache::archives=*) cp {deb} "${{word#Dir::Cache::archives=}}/";; esac; done""",
    )
    (folder / "dpkg-deb").symlink_to("/usr/bin/dpkg-deb")
    for tool in ("tar", "xz", "zstd"):
        if (found := shutil.which(tool, path="/usr/bin:/bin")) is not None:
            (folder / tool).symlink_to(found)
    return calls


def test_a_program_on_path_is_used_as_it_is(path_folder: Path) -> None:
    script(path_folder / "meter", "echo meter 2.10.1")
    assert find_program("meter", wanted=WANTED) == Program(path_folder / "meter", (2, 10, 1))


def test_a_program_under_its_other_name_is_found(path_folder: Path) -> None:
    script(path_folder / "old-meter", "echo 2.4 >&2")
    assert find_program("meter", wanted=WANTED) == Program(path_folder / "old-meter", (2, 4))


@needs_dpkg
def test_where_path_has_too_old_a_one_the_package_is_unpacked_once(path_folder: Path, tmp_path: Path) -> None:
    script(path_folder / "meter", "echo meter 2.3.9")
    calls = apt(path_folder, tmp_path, archive(tmp_path, "2.42.0"))
    said: list[str] = []
    for _ in range(2):
        found = find_program("meter", said.append, WANTED)
        assert isinstance(found, Program)
        assert found.version == (2, 42, 0)
        assert (tmp_path / "cache") in found.path.parents
        assert "LD_LIBRARY_PATH" not in found.env, "it has no libraries of its own"
    assert len(calls.read_text().splitlines()) == 1
    assert len(said) == 1


@needs_dpkg
def test_stale_package_lists_are_read_anew_into_a_folder_of_our_own(path_folder: Path, tmp_path: Path) -> None:
    calls = apt(path_folder, tmp_path, archive(tmp_path, "3.0"), lists_are_stale=True)
    assert isinstance(find_program("meter", wanted=WANTED), Program)
    first, update, second = calls.read_text().splitlines()
    assert "Dir::State::lists" not in first
    assert update.endswith("update")
    assert str(tmp_path / "cache") in update, "a normal user may not write the machine's lists"
    assert "Dir::State::lists" in second


@needs_dpkg
def test_a_package_that_is_too_old_as_well_is_no_program(path_folder: Path, tmp_path: Path) -> None:
    apt(path_folder, tmp_path, archive(tmp_path, "1.9.9"))
    found = find_program("meter", wanted=WANTED)
    assert isinstance(found, NoProgram)
    assert "PATH has no meter" in found.reason
    assert "package meter-tools is version 1.9.9" in found.reason


def test_without_apt_the_reason_names_what_is_missing(path_folder: Path) -> None:
    found = find_program("meter", wanted=WANTED)
    assert isinstance(found, NoProgram)
    assert found.reason == "PATH has no meter, and packages cannot be unpacked without apt-get and dpkg-deb"


@needs_dpkg
def test_a_failed_download_leaves_nothing_and_says_what_apt_said(path_folder: Path, tmp_path: Path) -> None:
    apt(path_folder, tmp_path, archive(tmp_path, "3.0"))
    script(path_folder / "apt-get", "echo 'E: Unable to locate package meter-tools' >&2; exit 100")
    found = find_program("meter", wanted=WANTED)
    assert isinstance(found, NoProgram)
    assert "Unable to locate package meter-tools" in found.reason
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_program_that_does_not_run_is_not_used(path_folder: Path) -> None:
    script(path_folder / "meter", "exit 1")
    found = find_program("meter", wanted=WANTED)
    assert isinstance(found, NoProgram)
    assert "does not tell its version (exit 1" in found.reason


def test_a_text_that_is_no_package_name_never_reaches_apt(path_folder: Path) -> None:
    wanted = {"meter": Wanted(("meter",), "--allow-unauthenticated", ())}
    found = find_program("meter", wanted=wanted)
    assert isinstance(found, NoProgram)
    assert "is no package name" in found.reason


def test_whoever_cannot_go_on_without_it_is_told_what_to_install(
    path_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROGRAMS, "meter", WANTED["meter"])
    with pytest.raises(LabError, match=r"meter is needed: PATH has no meter.*Debian's package meter-tools"):
        require_program("meter")
