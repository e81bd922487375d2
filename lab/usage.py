"""How much GPU memory each simulated pod uses, in ``usage.json`` of the lab.

Pod life writes what a pod's annotation says and frees it at the pod's end; ``gpumem lab usage set``
overrides it; the simulated device reads it. Several processes write, so a lock file orders them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.api import Api, Object
from lab.errors import LabInputError
from lab.state import write_atomically

FILE = "usage.json"


@dataclass(frozen=True)
class PodUsage:
    """GPU memory that one pod uses, in MiB, and the node whose GPUs it is on."""

    node: str
    used_mib: int


class UsageStore:
    """``{"<namespace>/<pod>": PodUsage}`` on disk."""

    def __init__(self, lab_dir: Path) -> None:
        self._path = lab_dir / FILE
        self._lock = lab_dir / f"{FILE}.lock"

    def read(self) -> dict[str, PodUsage]:
        """Every pod that uses memory; empty before the first one does."""
        try:
            document = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        return {pod: PodUsage(**usage) for pod, usage in document.items()}

    def update(self, usages: Mapping[str, PodUsage]) -> None:
        """Sets the use of some pods; 0 MiB takes a pod out.

        Raises:
            LabInputError: A use is negative.
        """
        for pod, usage in usages.items():
            if usage.used_mib < 0:
                raise LabInputError(f"used MiB of {pod} is {usage.used_mib}: it may be 0 or more")
        with self._locked():
            changed = self.read() | dict(usages)
            self._write({pod: usage for pod, usage in changed.items() if usage.used_mib > 0})

    def free(self, pod: str) -> int:
        """Frees what ``namespace/name`` uses; returns how many MiB that were."""
        if pod not in self.read():  # most pods use nothing: no lock, no write
            return 0
        with self._locked():
            usages = self.read()
            freed = usages.pop(pod, None)
            self._write(usages)
        return freed.used_mib if freed else 0

    def _write(self, usages: Mapping[str, PodUsage]) -> None:
        write_atomically(self._path, {pod: asdict(usage) for pod, usage in sorted(usages.items())})

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def set_workload_usage(api: Api, store: UsageStore, namespace: str, workload: str, used_mib: int) -> list[str]:
    """Sets the use of every running pod of a workload.

    Args:
        api: A client that may list pods.
        store: Where it is written.
        namespace: The tenant's namespace.
        workload: Name of its Deployment, StatefulSet, DaemonSet, ReplicaSet or Job, or of one pod.
        used_mib: MiB of each pod.

    Returns:
        The pods as ``namespace/name``.

    Raises:
        LabInputError: No pod of it is running, or `used_mib` is negative.
    """
    pods = api.get(f"/api/v1/namespaces/{namespace}/pods", fieldSelector="status.phase=Running")["items"]
    found = {
        f"{namespace}/{pod['metadata']['name']}": PodUsage(pod["spec"]["nodeName"], used_mib)
        for pod in pods
        if belongs_to(pod, workload)
    }
    if not found:
        running = ", ".join(sorted(pod["metadata"]["name"] for pod in pods)) or "none"
        raise LabInputError(f"no pod of {workload!r} is running in namespace {namespace!r}; running there: {running}")
    store.update(found)
    return sorted(found)


def belongs_to(pod: Object, workload: str) -> bool:
    """Whether a pod is `workload` itself or made by it, through a Deployment's ReplicaSet or not."""
    metadata = pod["metadata"]
    template = metadata.get("labels", {}).get("pod-template-hash")
    names = {workload} if template is None else {workload, f"{workload}-{template}"}
    owners = {owner["name"] for owner in metadata.get("ownerReferences", [])}
    return metadata["name"] == workload or bool(owners & names)
