"""Builds the Containerfile here: buildah from the distribution's packages, and bases made of this machine.

Nothing is pulled. The bases hold this machine's Python and Node with the libraries that they load, so what is shown is
that the file builds and what comes out of it, not that the real bases fit. Packages come as wheels from a folder. Needs
root, for overlay mounts and chroot.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.programs import NoProgram, Program, Wanted, find_program

PROJECT = Path(__file__).resolve().parents[1]
PYTHON_BASE, NODE_BASE = "localhost/gpumem-lab/python:1", "localhost/gpumem-lab/node:1"
BUILDAH = {"buildah": Wanted(("buildah",), "buildah", ("usr/bin/buildah",), least_version=(1, 23))}
BOUND_SECONDS = 1500.0  # against hanging: half a minute of one core, which a busy machine shares
_NO_STDLIB = ("site-packages", "test", "idlelib", "lib2to3", "tkinter", "turtledemo", "__pycache__", "config-*")
_LOADED = re.compile(r"(?:=> )?(/\S+) \(0x")


@dataclass(frozen=True)
class Buildah:
    """buildah with a storage of its own under `folder`."""

    program: Program
    folder: Path

    def run(self, *arguments: str | Path) -> str:
        """One command; what it prints.

        Raises:
            LabError: it failed, with its last lines.
        """
        environment = {
            **os.environ,
            **self.program.env,
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(self.folder / "registries.conf"),
            "BUILDAH_ISOLATION": "chroot",  # no runtime, no network namespace, no cgroup
        }
        process = subprocess.Popen(
            [*_apart(self.program), self.program.path, *arguments],
            env=environment,
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            said, complaints = process.communicate(timeout=BOUND_SECONDS)
        finally:
            if process.poll() is None:  # what runs within the build would go on: the whole session ends
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        if process.returncode != 0:
            last = "\n".join((said + complaints).splitlines()[-25:])
            raise LabError(f"buildah {arguments[0]} failed (exit {process.returncode}):\n{last}")
        return said

    def build(self, target: str, *arguments: str | Path) -> None:
        """The image `localhost/gpumem-TARGET`, on the bases made here."""
        bases = ("--build-arg", f"PYTHON_IMAGE={PYTHON_BASE}", "--build-arg", f"NODE_IMAGE={NODE_BASE}")
        policy = ("--signature-policy", self.folder / "policy.json", "--pull-never", "--layers")
        self.run(
            "build", *policy, *bases, "--target", target, "--tag", f"localhost/gpumem-{target}", *arguments, PROJECT
        )


def find_buildah(folder: Path) -> Buildah | NoProgram:
    """buildah, with its storage in `folder`; else why it cannot build here."""
    if os.geteuid() != 0:
        return NoProgram("buildah", "building without a container runtime takes root")
    found = find_program("buildah", wanted=BUILDAH)
    if isinstance(found, NoProgram):
        return found
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/storage"\n'
    )
    (folder / "registries.conf").write_text("unqualified-search-registries = []\n")
    (folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}\n')
    return Buildah(found, folder)


def _apart(program: Program) -> list[str]:
    """What starts buildah in a mount namespace of its own: what it mounts and leaves ends with it.

    An unpacked one starts itself again with an empty environment, so a path to its libraries there does not do: in
    that namespace they lie beside the machine's.
    """
    unpacked = [Path(folder) for folder in program.env.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]
    mounts = [
        f"mount -t overlay gpumem -o lowerdir={folder}:/usr/lib/{folder.name} /usr/lib/{folder.name}"
        for folder in unpacked
        if folder.parent.match("usr/lib") and Path("/usr/lib", folder.name).is_dir()
    ]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", "\n".join([*mounts, 'exec "$@"']), "buildah"]


def make_bases(buildah: Buildah, busybox: Path) -> None:
    """The two base images; Node's has npm, and Python's has none of it."""
    python, node = buildah.folder / "python", buildah.folder / "node"
    _system(python, busybox)
    _python(python)
    _image(buildah, python, PYTHON_BASE)
    _system(node, busybox)
    _node(node)
    _image(buildah, node, NODE_BASE)


def _image(buildah: Buildah, root: Path, name: str) -> None:
    container = buildah.run("from", "scratch").strip()
    buildah.run("add", "--quiet", container, root, "/")
    buildah.run("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)
    policy = ("--signature-policy", buildah.folder / "policy.json")
    buildah.run("commit", "--quiet", "--rm", *policy, container, name)
    shutil.rmtree(root)


def _system(root: Path, busybox: Path) -> None:
    for folder in ("bin", "usr/bin", "usr/lib", "usr/local/bin", "etc", "root", "tmp"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy(busybox, root / "bin/busybox")
    for command in ("sh", "cp", "ls", "mkdir", "rm", "env", "cat", "uname"):
        (root / "bin" / command).symlink_to("busybox")
    (root / "usr/bin/env").symlink_to("/bin/busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")


def _python(root: Path) -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix, target = Path(sys.base_prefix), root / "usr/local"
    shutil.copy((prefix / "bin" / version).resolve(), target / "bin" / version)
    for name in ("python", "python3"):
        (target / "bin" / name).symlink_to(version)
    ignored = shutil.ignore_patterns(*_NO_STDLIB)
    shutil.copytree(prefix / "lib" / version, target / "lib" / version, ignore=ignored, symlinks=True)
    extensions = (target / "lib" / version / "lib-dynload").glob("*.so")
    _libraries(
        root, [prefix / "bin" / version, *(prefix / "lib" / version / "lib-dynload" / one.name for one in extensions)]
    )
    # A shared build finds its own library by a path of this machine; in the image the loader's usual folder has it.
    for library in (prefix / "lib").glob("libpython*.so*"):
        shutil.copy(library, root / "usr/lib")
    # Wheels bring their libraries, but for those that every Debian has: C++'s (by way of Node's) and the C runtime's.
    _libraries(root, [Path(found) for found in (shutil.which("node"),) if found])
    (libc,) = {one for one in _loaded([Path(sys.executable).resolve()]) if one.name.startswith("libc.so")}
    for name in ("librt.so.1", "libdl.so.2", "libpthread.so.0", "libutil.so.1", "libresolv.so.2"):
        if (libc.parent / name).exists():
            shutil.copy(libc.parent / name, root / str(libc.parent).lstrip("/"))


def _node(root: Path) -> None:
    program = shutil.which("node")
    npm = shutil.which("npm")
    if program is None or npm is None:
        raise LabError("PATH has no node with npm: the image's stage for BullMQ's clients needs both")
    shutil.copy(program, root / "usr/local/bin/node")
    package = Path(npm).resolve().parents[1]
    shutil.copytree(package, root / "usr/local/lib/node_modules/npm", symlinks=True)
    (root / "usr/local/bin/npm").symlink_to("../lib/node_modules/npm/bin/npm-cli.js")
    _libraries(root, [Path(program)])


def _libraries(root: Path, programs: Iterable[Path]) -> None:
    """What the programs load, where they find it."""
    for library in sorted(set(_loaded(programs))):
        target = root / str(library).lstrip("/")
        if not target.exists() and not library.is_relative_to(sys.base_prefix):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)


def _loaded(programs: Iterable[Path]) -> Iterator[Path]:
    for program in programs:
        done = subprocess.run(["ldd", program], capture_output=True, text=True, timeout=60)
        yield from (Path(found) for found in _LOADED.findall(done.stdout))
