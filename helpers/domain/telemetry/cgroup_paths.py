"""Which pod and container a cgroup path belongs to.

Shapes (kubelet's cgroup_manager_linux.go, containerd's and CRI-O's cgroup managers):
    systemd   .../kubepods-burstable-pod<uid with _>.slice/cri-containerd-<id>.scope, crio-<id>.scope
    cgroupfs  /kubepods/burstable/pod<uid>/<id>, .../crio-<id>
Guaranteed pods have no level of their own; a static pod's uid is 32 hex digits. A reader in a private
cgroup namespace sees paths relative to itself (`/../../kubepods-...`), so paths are searched, never
matched from the start.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_POD = re.compile(r"(?:^|-)pod(?P<uid>[0-9a-f]{8}(?:[-_]?[0-9a-f]{4}){3}[-_]?[0-9a-f]{12})(?:\.slice)?$")
_CONTAINER = re.compile(r"^(?:(?:cri-containerd|crio|docker|libpod)-)?(?P<id>[^/]+?)(?:\.scope)?$")
# A container's id without a pod above it: what a private cgroup namespace leaves of a sibling in one's own pod.
_BARE_ID = re.compile(r"^(?:(?:cri-containerd|crio|docker|libpod)-)?(?P<id>[0-9a-f]{64})(?:\.scope)?$")
_UNIT = re.compile(r"^[^/]+\.service$")
_DASHED_UID_LENGTH = 36


@dataclass(frozen=True)
class CgroupPlace:
    """A pod (by uid; empty where the path shows none) and its container (by id; empty likewise).

    `path` leads to the container's own cgroup, below the hierarchy's root.
    """

    pod_uid: str
    container_id: str
    path: str


@dataclass(frozen=True)
class CgroupMembership:
    """What a process' cgroup file says.

    `places` are the pods it could belong to, outermost first: where a kubelet runs inside a pod, only
    the outer one is known to the outer kubelet, and a tenant that names a cgroup of its own like
    another pod's stays below its own. `unit` is the innermost systemd service.
    """

    places: tuple[CgroupPlace, ...] = ()
    unit: str = ""
    is_v2: bool = False


def parse_cgroup(text: str) -> CgroupMembership:
    """Reads `/proc/<pid>/cgroup`: `hierarchy:controllers:path` lines (proc(5)); other lines are ignored.

    cgroup v1 has a line for each controller, v2 one line `0::path`; a hybrid host has both, and then
    pods live in the v1 ones.
    """
    places: dict[CgroupPlace, None] = {}
    unit = ""
    pods_on_v1 = False
    for line in text.splitlines():
        hierarchy, _, rest = line.partition(":")
        _, found, path = rest.partition(":")
        if not found:
            continue
        here = _places(path.removesuffix(" (deleted)"))
        places.update(dict.fromkeys(here))
        pods_on_v1 = pods_on_v1 or (bool(here) and hierarchy != "0")
        unit = unit or next((part for part in reversed(path.split("/")) if _UNIT.match(part)), "")
    return CgroupMembership(tuple(places), unit, is_v2=bool(places) and not pods_on_v1)


def _places(path: str) -> list[CgroupPlace]:
    parts = path.split("/")
    places = []
    for number, part in enumerate(parts):
        pod = _POD.search(part)
        if pod is None:
            continue
        below = parts[number + 1] if number + 1 < len(parts) else ""
        container = _CONTAINER.match(below)
        upto = number + (2 if container else 1)
        places.append(CgroupPlace(_dashed(pod["uid"]), container["id"] if container else "", "/".join(parts[:upto])))
    if places:
        return places
    bare = [(number, match) for number, part in enumerate(parts) if (match := _BARE_ID.match(part))]
    return [CgroupPlace("", match["id"], "/".join(parts[: number + 1])) for number, match in bare[:1]]


def _dashed(uid: str) -> str:
    """A pod's uid as the API spells it; a static pod's hash has no dashes and keeps none."""
    return uid.replace("_", "-") if len(uid) == _DASHED_UID_LENGTH else uid
