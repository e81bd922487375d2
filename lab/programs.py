"""Finds programs that are not the project's own: on PATH, else in the distribution's packages.

Where PATH has none that is new enough, Debian's packages (and those that they need and this machine
lacks) are downloaded and unpacked into the project's cache: nothing is installed, no right is
needed, no service starts. What cannot be had is answered with the reason, so that a test that needs
it is skipped with that reason and counted.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import LabError
from lab.toolchain import cache_root

Version = tuple[int, ...]
Progress = Callable[[str], None]

DOWNLOAD_BOUND_SECONDS = 300.0
UNPACK_BOUND_SECONDS = 120.0
ANSWER_BOUND_SECONDS = 20.0
PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")


@dataclass(frozen=True)
class Wanted:
    """A program and where it comes from.

    Attributes:
        commands: The names that it has on PATH; the first that is there counts.
        package: The distribution's package.
        files: Where it lies in the unpacked package, as glob patterns below the root.
        version_argument: What makes it print its version.
        least_version: The oldest that will do, such as ``(2, 42)``.
    """

    commands: tuple[str, ...]
    package: str
    files: tuple[str, ...]
    version_argument: str = "--version"
    least_version: Version = ()


@dataclass(frozen=True)
class Program:
    """A program that runs here. `env` goes on top of the environment (an unpacked one finds its libraries by it)."""

    path: Path
    version: Version
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NoProgram:
    """A program that cannot be had, and why."""

    name: str
    reason: str


PROGRAMS: dict[str, Wanted] = {
    # 2.42 is the first that knows keep_firing_for.
    "prometheus": Wanted(("prometheus",), "prometheus", ("usr/bin/prometheus",), least_version=(2, 42)),
    "promtool": Wanted(("promtool",), "prometheus", ("usr/bin/promtool",), least_version=(2, 42)),
    "redis-server": Wanted(("redis-server", "valkey-server"), "redis-server", ("usr/bin/redis-server",)),
    "postgres": Wanted(("postgres",), "postgresql", ("usr/lib/postgresql/*/bin/postgres",)),
    "initdb": Wanted(("initdb",), "postgresql", ("usr/lib/postgresql/*/bin/initdb",)),
    # 1.6 is the first whose kubelet interface (CRI v1) Kubernetes 1.36 speaks. Its shim and ctr lie beside it.
    "containerd": Wanted(("containerd",), "containerd", ("usr/bin/containerd",), least_version=(1, 6)),
    "runc": Wanted(("runc",), "runc", ("usr/sbin/runc", "usr/bin/runc"), least_version=(1, 1)),
    # One of the network plugins; the others lie beside it. (`bridge` is also a program of iproute2.)
    "host-local": Wanted(("host-local",), "containernetworking-plugins", ("usr/lib/cni/host-local",)),
    # The dynamic build that most machines have does not run in an image without libraries.
    "busybox": Wanted(
        ("busybox-static", "busybox.static"), "busybox-static", ("bin/busybox", "usr/bin/busybox"), "--help"
    ),
    "chromium": Wanted(
        # The program itself: the script on PATH knows only the place of an installed one.
        ("chromium", "chromium-browser", "google-chrome"),
        "chromium",
        ("usr/lib/chromium/chromium",),
    ),
}


def find_program(
    name: str, progress: Progress = lambda _: None, wanted: Mapping[str, Wanted] = PROGRAMS
) -> Program | NoProgram:
    """The program called `name`, downloaded first where PATH has none that is new enough.

    Args:
        name: A key of `wanted`; KeyError otherwise.
        progress: Gets one line where something is downloaded.
        wanted: The programs that are known.
    """
    one = wanted[name]
    on_path, why = _on_path(one)
    if on_path is not None:
        return on_path
    try:
        root = _unpacked(one.package, progress)
    except LabError as error:
        return NoProgram(name, f"{why}, and {error}")
    # Only where there are some: an empty path would make the loader look into the current folder.
    env = {"LD_LIBRARY_PATH": folders} if (folders := os.pathsep.join(map(str, _library_folders(root)))) else {}
    for pattern in one.files:
        for path in sorted(root.glob(pattern), reverse=True):  # the newest of several versions
            version, said = _version(path, one.version_argument, env)
            if version is not None and version >= one.least_version:
                return Program(path, version, env)
            why = f"{why}, and the one in package {one.package} {said}"
    return NoProgram(name, f"{why}; package {one.package} unpacked in {root} has none that will do")


def require_program(name: str, progress: Progress = lambda _: None) -> Program:
    """The same for a caller that cannot go on without it.

    Raises:
        LabError: It cannot be had; the message says why and what to install.
    """
    found = find_program(name, progress)
    if isinstance(found, NoProgram):
        raise LabError(f"{name} is needed: {found.reason}. Install it (Debian's package {PROGRAMS[name].package}).")
    return found


def _on_path(one: Wanted) -> tuple[Program | None, str]:
    why = f"PATH has no {one.commands[0]}"
    for command in one.commands:
        if found := shutil.which(command):
            version, said = _version(Path(found), one.version_argument, {})
            if version is not None and version >= one.least_version:
                return Program(Path(found), version), ""
            least = ".".join(map(str, one.least_version))
            why = f"{found} {said}" + (f", {least} or newer is needed" if version is not None else "")
    return None, why


def _version(path: Path, argument: str, env: Mapping[str, str]) -> tuple[Version | None, str]:
    """The first dotted number that the program prints, and what to say about it."""
    try:
        answer = subprocess.run(
            [path, argument],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_BOUND_SECONDS,
            env={**os.environ, **env},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"does not run: {error}"
    said = answer.stdout + answer.stderr
    found = re.search(r"\d+(?:\.\d+)+", said)
    if answer.returncode != 0 or found is None:
        return None, f"does not tell its version (exit {answer.returncode}: {said.strip()[:200]!r})"
    return tuple(int(part) for part in found[0].split(".")), f"is version {found[0]}"


def _unpacked(package: str, progress: Progress) -> Path:
    """The folder with `package` and what it needs, downloaded and unpacked once.

    Raises:
        LabError: This is no machine with apt, or a download or unpacking failed or took too long.
    """
    if PACKAGE_NAME.fullmatch(package) is None:
        raise LabError(f"{package!r} is no package name")
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise LabError(f"packages cannot be unpacked without {' and '.join(missing)}")
    folder = cache_root() / "programs" / _distribution() / package
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder.with_name(f"{folder.name}.lock")):
        if not folder.is_dir():  # another process may have made it meanwhile
            progress(f"downloading the distribution's package {package} into {folder} (nothing is installed)")
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{package}-") as scratch:
                root = Path(scratch) / "root"
                root.mkdir()
                for archive in _downloaded(package, Path(scratch)):
                    _run(["dpkg-deb", "-x", str(archive), str(root)], UNPACK_BOUND_SECONDS)
                root.replace(folder)
    return folder


def _distribution() -> str:
    """A folder name: two releases, or two machines with one home, must not share binaries."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    name = f"{release.get('ID', 'unknown')}-{release.get('VERSION_ID', 'rolling')}-{platform.machine()}"
    # What is installed decides which packages are missing, so an upgrade asks again.
    status = Path("/var/lib/dpkg/status")
    changed = hashlib.sha256(status.read_bytes()).hexdigest()[:8] if status.is_file() else "none"
    return f"{name}-{changed}"


def _downloaded(package: str, scratch: Path) -> list[Path]:
    archives = scratch / "archives"
    (archives / "partial").mkdir(parents=True)
    own = ["-o", "Debug::NoLocking=true", "-o", f"Dir::Cache={scratch}", "-o", f"Dir::Cache::archives={archives}"]
    # --download-only of an install resolves what the package needs and this machine lacks; not locked
    # and with a cache of its own, that needs no right that a normal user has not.
    fetch = ["apt-get", "-y", "-qq", *own, "--no-install-recommends", "--download-only", "install", package]
    try:
        _run(fetch, DOWNLOAD_BOUND_SECONDS)
    except LabError:
        # The machine's package lists are absent or older than the mirror: read them into a folder of our own.
        lists = scratch / "lists"
        (lists / "partial").mkdir(parents=True)
        own += ["-o", f"Dir::State::lists={lists}"]
        fetch[3:3] = ["-o", f"Dir::State::lists={lists}"]
        _run(["apt-get", "-qq", *own, "update"], DOWNLOAD_BOUND_SECONDS, accept_failure=True)
        _run(fetch, DOWNLOAD_BOUND_SECONDS)
    found = sorted(archives.glob("*.deb"))
    if not found:
        raise LabError(f"apt-get downloaded nothing for package {package}: it is installed, and its program is broken")
    return found


def _run(command: Sequence[str], bound_seconds: float, *, accept_failure: bool = False) -> None:
    """Runs a command without asking anybody anything.

    `accept_failure`: one of several package sources may be out of reach, and the others still do.
    """
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=bound_seconds,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{' '.join(command[:2])}` took more than {bound_seconds:.0f} s") from error
    if answer.returncode != 0 and not accept_failure:
        tail = " / ".join((answer.stdout + answer.stderr).strip().splitlines()[-3:])
        raise LabError(f"`{command[0]} … {command[-1]}` failed (exit {answer.returncode}): {tail}")


def _library_folders(root: Path) -> list[Path]:
    folders = {path.parent for top in ("lib", "usr/lib") for path in root.glob(f"{top}/**/*.so*")}
    return sorted(folders)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
