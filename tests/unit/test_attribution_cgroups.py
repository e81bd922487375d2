"""Every shape of cgroup path that kubelets and runtimes make."""

from __future__ import annotations

import pytest

from helpers.domain.telemetry.cgroup_paths import CgroupPlace, parse_cgroup

UID = "0a1b2c3d-1111-4222-8333-0123456789ab"
UNDERSCORED = UID.replace("-", "_")
STATIC = "0a1b2c3d1111422283330123456789ab"
ID = "ab" * 32

SHAPES = {
    "systemd driver, containerd, burstable, cgroup v2": (
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope",
        UID,
        ID,
    ),
    "systemd driver, CRI-O, besteffort": (
        f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice/crio-{ID}.scope",
        UID,
        ID,
    ),
    "systemd driver, guaranteed: no level of its own": (
        f"0::/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope",
        UID,
        ID,
    ),
    "cgroupfs driver, containerd (Talos)": (f"0::/kubepods/burstable/pod{UID}/{ID}", UID, ID),
    "cgroupfs driver, CRI-O": (f"0::/kubepods/besteffort/pod{UID}/crio-{ID}", UID, ID),
    "cgroupfs driver, guaranteed": (f"0::/kubepods/pod{UID}/{ID}", UID, ID),
    "static pod: a hash instead of a uid": (f"0::/kubepods/burstable/pod{STATIC}/{ID}", STATIC, ID),
    "static pod, systemd driver": (
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice/cri-containerd-{ID}.scope",
        STATIC,
        ID,
    ),
    "a child cgroup of the container": (
        f"0::/kubepods/pod{UID}/{ID}/init.scope",
        UID,
        ID,
    ),
    "seen from a private cgroup namespace": (
        f"0::/../../kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope",
        UID,
        ID,
    ),
    "seen from a private cgroup namespace, cgroupfs": (f"0::/../../pod{UID}/{ID}", UID, ID),
    "a sibling container of the reader's own pod": (f"0::/../cri-containerd-{ID}.scope", "", ID),
    "a cgroup that was removed under a zombie": (f"0::/kubepods/pod{UID}/{ID} (deleted)", UID, ID),
}


@pytest.mark.parametrize(("text", "uid", "container"), SHAPES.values(), ids=SHAPES.keys())
def test_a_pods_process_is_found_by_uid_and_container(text: str, uid: str, container: str) -> None:
    place = parse_cgroup(text).places[0]
    assert (place.pod_uid, place.container_id) == (uid, container)


def test_cgroup_v1_has_a_line_for_each_controller_and_gives_one_place() -> None:
    path = f"/kubepods/burstable/pod{UID}/{ID}"
    text = "\n".join([f"12:memory:{path}", f"11:cpu,cpuacct:{path}", f"1:name=systemd:{path}", "0::/"])
    membership = parse_cgroup(text)
    assert membership.places == (CgroupPlace(UID, ID, path),)
    assert not membership.is_v2


def test_cgroup_v2_is_told_from_v1() -> None:
    assert parse_cgroup(f"0::/kubepods/pod{UID}/{ID}").is_v2


@pytest.mark.parametrize(
    "text",
    [
        "0::/user.slice/user-1000.slice/session-3.scope",
        "0::/",
        "",
        "no cgroup line at all",
        "0::/kubepods/burstable/pod1234/too-short-a-uid",
        "0::/system.slice/podman-1111.service",
    ],
)
def test_a_process_outside_any_pod_has_no_place(text: str) -> None:
    assert parse_cgroup(text).places == ()


def test_a_path_that_claims_another_pod_below_ones_own_stays_ones_own() -> None:
    other = "ffffffff-1111-4222-8333-0123456789ab"
    places = parse_cgroup(f"0::/kubepods/pod{UID}/{ID}/kubepods/pod{other}/{'cd' * 32}").places
    assert [place.pod_uid for place in places] == [UID, other]


def test_the_path_of_a_place_ends_at_the_containers_own_cgroup() -> None:
    place = parse_cgroup(f"0::/kubepods/pod{UID}/{ID}/nested/deeper").places[0]
    assert place.path == f"/kubepods/pod{UID}/{ID}"


def test_a_systemd_service_is_named_for_machines_outside_kubernetes() -> None:
    assert parse_cgroup("0::/system.slice/ollama.service").unit == "ollama.service"
