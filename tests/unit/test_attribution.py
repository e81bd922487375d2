"""From processes to tenants."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from helpers.domain.telemetry.attribution import (
    CgroupReadings,
    ProcessTenant,
    attribute,
    container_places,
    unknown_pods,
)
from helpers.domain.telemetry.pod_directory import LIMIT_VARIABLES, PodDirectory, read_pods
from helpers.domain.telemetry.reading import Attribution, CgroupReading, DeviceReading, Refusal
from tests.fakes.telemetry import GIB, RESOURCE, cgroup_v2, container_id, pod, process, reading, uid


def device(processes: Mapping[int, int], used: int = 10 * GIB) -> DeviceReading:
    return reading(0, processes, used=used).devices[0]


def used_by_pod(found: Attribution) -> dict[tuple[str, str], int]:
    return {(use.pod, use.container): use.used_bytes for use in found.uses}


def test_processes_of_one_container_add_up_and_the_rest_is_unattributed() -> None:
    directory = read_pods([pod(1), pod(2)], RESOURCE)
    processes = {10: process(10, cgroup_v2(1)), 11: process(11, cgroup_v2(1)), 12: process(12, cgroup_v2(2))}
    found = attribute(device({10: GIB, 11: GIB, 12: 3 * GIB}), processes, directory)
    assert used_by_pod(found) == {("pod-1", "main"): 2 * GIB, ("pod-2", "main"): 3 * GIB}
    assert found.unattributed_bytes == 5 * GIB


def test_fault_4_what_host_processes_and_the_driver_hold_is_seen() -> None:
    """Free was a constant minus the pods' sum, so nobody saw what was not a pod's."""
    processes = {10: process(10, cgroup_v2(1)), 20: process(20, "0::/user.slice\n")}
    found = attribute(device({10: GIB, 20: 2 * GIB}, used=4 * GIB), processes, read_pods([pod(1)], RESOURCE))
    assert found.unattributed_bytes == 3 * GIB
    assert found.unattributed_processes == {"no_pod": 1}


def test_a_process_of_an_unknown_pod_is_counted_and_not_lost() -> None:
    processes = {10: process(10, cgroup_v2(9))}
    found = attribute(device({10: GIB}), processes, read_pods([pod(1)], RESOURCE))
    assert found.unattributed_processes == {"unknown_pod": 1}
    assert found.unattributed_bytes == 10 * GIB


def test_a_pid_that_the_proc_tree_does_not_show_is_counted_as_invisible() -> None:
    found = attribute(device({10: GIB}), {}, PodDirectory())
    assert found.unattributed_processes == {"invisible": 1}


def test_a_sum_above_the_cards_figure_leaves_nothing_and_never_a_negative_rest() -> None:
    found = attribute(
        device({10: 4 * GIB}, used=3 * GIB), {10: process(10, cgroup_v2(1))}, read_pods([pod(1)], RESOURCE)
    )
    assert found.unattributed_bytes == 0


def test_a_container_whose_status_is_not_there_yet_is_its_pods() -> None:
    new = pod(1)
    new["status"]["containerStatuses"] = []
    directory = read_pods([new], RESOURCE)
    processes = {10: process(10, cgroup_v2(1))}
    assert used_by_pod(attribute(device({10: GIB}), processes, directory)) == {("pod-1", ""): GIB}
    assert unknown_pods(device({10: GIB}), processes, directory), "a newer list is worth asking for"


def test_a_restarted_containers_last_process_is_still_its_own() -> None:
    restarted = pod(1)
    status = restarted["status"]["containerStatuses"][0]
    status["lastState"] = {"terminated": {"containerID": f"containerd://{container_id(77)}"}}
    old = cgroup_v2(1).replace(container_id(1), container_id(77))
    found = attribute(device({10: GIB}), {10: process(10, old)}, read_pods([restarted], RESOURCE))
    assert used_by_pod(found) == {("pod-1", "main"): GIB}


def test_a_container_id_under_another_pods_uid_is_not_believed() -> None:
    forged = cgroup_v2(1).replace(container_id(1), container_id(2))
    found = attribute(device({10: GIB}), {10: process(10, forged)}, read_pods([pod(1), pod(2)], RESOURCE))
    assert used_by_pod(found) == {("pod-1", ""): GIB}


def test_a_container_seen_without_its_pod_is_found_by_its_id() -> None:
    """A private cgroup namespace hides the pod's level of the reader's own siblings."""
    sibling = f"0::/../cri-containerd-{container_id(1)}.scope\n"
    found = attribute(device({10: GIB}), {10: process(10, sibling)}, read_pods([pod(1)], RESOURCE))
    assert used_by_pod(found) == {("pod-1", "main"): GIB}


def test_a_static_pod_is_found_by_its_manifests_hash() -> None:
    static = pod(1)
    hash_uid = "0a1b2c3d1111422283330123456789ab"
    static["metadata"]["annotations"] = {"kubernetes.io/config.hash": hash_uid}
    text = f"0::/kubepods/burstable/pod{hash_uid}/{container_id(1)}\n"
    found = attribute(device({10: GIB}), {10: process(10, text)}, read_pods([static], RESOURCE))
    assert used_by_pod(found) == {("pod-1", "main"): GIB}


def test_outside_kubernetes_a_tenant_is_a_unit_with_its_children_or_a_process_name() -> None:
    tenants = (ProcessTenant("ollama", unit="ollama.service"), ProcessTenant("plex", comm="Plex Transcoder"))
    processes = {
        10: process(10, "0::/system.slice/ollama.service\n", "ollama"),
        11: process(11, "0::/system.slice/ollama.service\n", "llama-server"),
        12: process(12, "0::/user.slice\n", "Plex Transcoder"),
        13: process(13, "0::/user.slice\n", "blender"),
    }
    found = attribute(device(dict.fromkeys(processes, GIB)), processes, PodDirectory(), tenants)
    assert used_by_pod(found) == {("", "ollama"): 2 * GIB, ("", "plex"): GIB}
    assert found.unattributed_processes == {"no_pod": 1}


def test_a_round_thousand_budget_is_read_as_the_api_server_stores_it() -> None:
    """Fault 1: `int("5k")` dropped every such tenant."""
    directory = read_pods([pod(1, limit="5k"), pod(2, limit="5e3"), pod(3, limit="15360")], RESOURCE)
    assert [one.budget_mib for one in directory.budgets] == [5000, 5000, 15360]


def test_a_budget_that_is_no_whole_number_is_listed_and_not_zero() -> None:
    directory = read_pods([pod(1, limit="1500m"), pod(2, limit="lots")], RESOURCE)
    assert directory.budgets == ()
    assert [one.pod for one in directory.unreadable] == ["pod-1", "pod-2"]
    assert "1500m" in directory.unreadable[0].reason


def test_two_pods_of_one_name_are_one_series() -> None:
    before, after = pod(1, limit="2k"), pod(1, limit="3k")
    after["metadata"]["uid"] = uid(8)
    assert [one.budget_mib for one in read_pods([before, after], RESOURCE).budgets] == [3000]


def test_a_finished_pod_has_no_budget_but_its_processes_are_still_known() -> None:
    finished = pod(1, limit="3k")
    finished["status"]["phase"] = "Succeeded"
    directory = read_pods([finished], RESOURCE)
    assert directory.budgets == ()
    assert directory.containers[container_id(1)].pod == "pod-1"


def test_a_sidecars_budget_counts_always_and_an_init_containers_while_it_runs() -> None:
    one = pod(1, limit="1k")
    limits = {"resources": {"limits": {RESOURCE: "2k"}}}
    one["spec"]["initContainers"] = [
        {"name": "sidecar", "restartPolicy": "Always", **limits},
        {"name": "loads", **limits},
        {"name": "done", **limits},
    ]
    one["status"]["initContainerStatuses"] = [
        {"name": "loads", "state": {"running": {}}},
        {"name": "done", "state": {"terminated": {}}},
    ]
    assert [each.container for each in read_pods([one], RESOURCE).budgets] == ["sidecar", "loads", "main"]


PATH = cgroup_v2(1).strip().removeprefix("0::")
BOTH = LIMIT_VARIABLES
MET = CgroupReading(GIB, 4 * GIB, 2 * GIB)


def with_reading(
    answer: CgroupReading | Refusal | None, *, env: tuple[str, ...] = BOTH, cgroup: str = "", supported: bool = True
) -> Attribution:
    directory = read_pods([pod(1, env=env)], RESOURCE)
    processes = {10: process(10, cgroup or cgroup_v2(1))}
    by_path = {} if answer is None else {PATH: answer}
    return attribute(device({10: 3 * GIB}), processes, directory, (), CgroupReadings(supported, by_path))


def test_the_drivers_own_account_of_a_container_replaces_the_sum_of_its_processes() -> None:
    found = with_reading(MET)
    assert [(use.used_bytes, use.cgroup) for use in found.uses] == [(2 * GIB, MET)]
    assert found.unattributed_bytes == 8 * GIB


def test_a_driver_before_r615_refuses_nothing_because_it_offers_nothing() -> None:
    found = with_reading(None, supported=False)
    assert found.refusals == {}
    assert found.uses[0].used_bytes == 3 * GIB


@pytest.mark.parametrize(
    ("refusal", "found"),
    [
        (Refusal.HALF_SET, with_reading(MET, env=BOTH[:1])),
        (Refusal.LIMIT_NOT_APPLIED, with_reading(CgroupReading(0, None, 0))),
        (Refusal.LIMITS_INCONSISTENT, with_reading(CgroupReading(5 * GIB, 4 * GIB, GIB))),
        (Refusal.READING_ZERO, with_reading(CgroupReading(GIB, 4 * GIB, 0))),
        (Refusal.NVML_ERROR, with_reading(Refusal.NVML_ERROR)),
        (Refusal.NVML_ERROR, with_reading(None)),
        (Refusal.CGROUP_V1, with_reading(MET, cgroup=cgroup_v2(1).replace("0::", "4:memory:"))),
        (
            Refusal.CGROUP_PATH_RELATIVE,
            with_reading(MET, cgroup=cgroup_v2(1).replace("/kubepods.slice/kubepods-burstable.slice", "/../..")),
        ),
    ],
    ids=lambda value: value.value if isinstance(value, Refusal) else "",
)
def test_fault_13_a_half_set_limit_is_refused_by_name_and_the_process_lists_stay_the_measure(
    refusal: Refusal, found: Attribution
) -> None:
    """A limit that does nothing says nothing: prove that it bites, or do not rest on it."""
    assert found.refusals == {refusal: 1}
    assert found.uses[0].used_bytes == 3 * GIB
    assert found.uses[0].cgroup is None


def test_a_container_that_asked_for_no_limit_is_measured_by_processes_without_a_complaint() -> None:
    found = with_reading(CgroupReading(0, None, 0), env=())
    assert found.refusals == {}
    assert found.uses[0].used_bytes == 3 * GIB


def test_only_whole_v2_paths_of_known_containers_are_asked_about() -> None:
    directory = read_pods([pod(1), pod(2)], RESOURCE)
    processes = {10: process(10, cgroup_v2(1)), 11: process(11, cgroup_v2(2).replace("0::", "4:memory:"))}
    assert container_places(device({10: GIB, 11: GIB}), processes, directory) == (PATH,)


def test_uids_of_the_fakes_are_spelled_as_the_api_spells_them() -> None:
    assert process(1, cgroup_v2(3)).membership.places[0].pod_uid == uid(3)
