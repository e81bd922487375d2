"""Container images made here, since nothing is pulled: a sandbox, a tenant, and the helpers' own.

The helpers' image has no Python in it. It would be this machine's in any case, so the pods see it by
mounts, read-only and at the same paths; `with_this_machine` is the only change to what is rendered.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import platform
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.fake_nvml.build import LIBRARY
from lab.fake_nvml.state import STATE_VARIABLE

SANDBOX_IMAGE = "registry.local/gpumem-lab-sandbox:1"
TENANT_IMAGE = "registry.local/gpumem-lab-tenant:1"
PROJECT = Path(__file__).parents[2]
LIBRARY_FOLDER = "/opt/nvml"
DRIVER_FOLDER = "/opt/driver"
DRIVER_STATE = "state"
_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_FOR_EVER_SECONDS = str(2**31 - 1)

Files = Mapping[str, bytes]


def busybox_files(busybox: Path, commands: Sequence[str] = ("sh", "sleep")) -> dict[str, bytes]:
    """The files of an image with these commands."""
    content = busybox.read_bytes()
    return {f"bin/{command}": content for command in commands}


def helper_files(busybox: Path, library: Path) -> dict[str, bytes]:
    """The files of the helpers' image: `gpumem`, and the driver's library as NVIDIA's runtime would put it in."""
    start = f'#!/bin/sh\nexec {sys.executable} -m helpers.apps.cli "$@"\n'
    files = {"bin/gpumem": start.encode(), f"{LIBRARY_FOLDER.lstrip('/')}/{LIBRARY}": (library / LIBRARY).read_bytes()}
    return busybox_files(busybox) | files


def helper_environment() -> dict[str, str]:
    """The environment that goes with it."""
    return {
        "PATH": "/bin",
        "PYTHONPATH": str(PROJECT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LD_LIBRARY_PATH": LIBRARY_FOLDER,
        STATE_VARIABLE: f"{DRIVER_FOLDER}/{DRIVER_STATE}",
    }


def write_image(
    path: Path, name: str, files: Files, environment: Mapping[str, str] | None = None, *, waits: bool = False
) -> None:
    """An image as `docker save` writes it, of one layer.

    Args:
        path: The archive.
        name: Repository and tag.
        files: `{path below the root: content}`, all executable.
        environment: What every container of it has.
        waits: Its command is to sleep for ever, as a sandbox does.
    """
    layer = _tar(files)
    config: dict[str, Any] = {"Env": [f"{key}={value}" for key, value in (environment or {"PATH": "/bin"}).items()]}
    if waits:
        config["Cmd"] = ["/bin/sleep", _FOR_EVER_SECONDS]
    digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    machine = platform.machine()
    image = {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    members = {"layer.tar": layer, "config.json": json.dumps(image).encode()}
    path.write_bytes(_tar(members | {"manifest.json": json.dumps(manifest).encode()}))


def _tar(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def visible_folders() -> list[str]:
    """Folders of this machine that hold a running Python, its packages and this project; none within another."""
    wanted = {*_SYSTEM_FOLDERS, sys.base_prefix, sys.prefix, str(PROJECT)}
    there = sorted(folder for folder in wanted if Path(folder).is_dir())
    return [one for one in there if not any(Path(one).is_relative_to(other) for other in there if other != one)]


def with_this_machine(manifest: Mapping[str, Any], image: str, driver: Path) -> dict[str, Any]:
    """A rendered manifest whose containers of `image` see this machine's Python and the stand-in driver's state.

    Args:
        manifest: Any object; one without such a container comes back as it is.
        image: The helpers' image.
        driver: The folder with the driver's state, on this machine.
    """
    changed = copy.deepcopy(dict(manifest))
    folders = [*((folder, folder) for folder in visible_folders()), (str(driver), DRIVER_FOLDER)]
    for pod in _pod_specs(changed):
        for container in pod["containers"]:
            if container.get("image") != image:
                continue
            for number, (source, target) in enumerate(folders):
                volume = {"name": f"machine-{number}", "hostPath": {"path": source, "type": "Directory"}}
                pod.setdefault("volumes", []).append(volume)
                mount = {"name": f"machine-{number}", "mountPath": target, "readOnly": True}
                container.setdefault("volumeMounts", []).append(mount)
    return changed


def _pod_specs(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if isinstance(value.get("containers"), list):
            yield value
        for part in value.values():
            yield from _pod_specs(part)
