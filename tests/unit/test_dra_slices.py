"""What is done about a node's slices, in each state in which they can be found."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from helpers.domain.dra import naming
from helpers.domain.dra.devices import Device, KnownDevice
from helpers.domain.dra.slice_document import (
    MOST_DEVICES_COUNT,
    NodeIdentity,
    desired_slice,
    memory_mib,
    memory_quantity,
    published_devices,
    slice_name,
)
from helpers.domain.dra.slices import NVIDIA_DRIVER, Keep, Publish, SliceAction, Withdraw, decide
from helpers.domain.errors import CheckFailed, QuantityError
from helpers.domain.names import is_dns_subdomain

NODE = NodeIdentity("gpu-node", "uid-1", "boot-1")
KNOWN = tuple(KnownDevice(Device(f"gpu-{n}", f"GPU-{n}", "RTX 3090", n, 24000, card_uuid=f"GPU-{n}")) for n in (0, 1))
NVIDIA = {
    "metadata": {"name": "nvidia", "uid": "n"},
    "spec": {
        "driver": NVIDIA_DRIVER,
        "pool": {"name": "gpu-node", "generation": 9, "resourceSliceCount": 1},
        "devices": [{"name": "gpu-0", "allowMultipleAllocations": True, "capacity": {"memory": {"value": "24Gi"}}}],
    },
}


def stored(known: tuple[KnownDevice, ...] = KNOWN, generation: int = 4, name: str = "") -> dict[str, Any]:
    """A slice as the API server shows it: with a uid, and the time of each taint."""
    item = copy.deepcopy(desired_slice(NODE, [one.published() for one in known], generation))
    item["metadata"] |= {"uid": "slice-uid", **({"name": name} if name else {})}
    for device in item["spec"]["devices"]:
        for taint in device.get("taints", []):
            taint["timeAdded"] = "2026-01-01T00:00:00Z"
    return item


def decided(*slices: Any, known: Any = KNOWN, node: Any = NODE, last: int = 0, in_use: bool = False) -> SliceAction:
    return decide(node, slices, known, last_generation=last, in_use=in_use)


def generation(action: SliceAction) -> int:
    assert isinstance(action, Publish)
    return int(action.manifest["spec"]["pool"]["generation"])


def test_a_device_offers_its_memory_in_steps_of_a_mib_and_whole_where_nothing_is_asked() -> None:
    (device, _) = desired_slice(NODE, [one.published() for one in KNOWN], 1)["spec"]["devices"]
    assert device["allowMultipleAllocations"] is True
    assert device["capacity"]["memory"] == {
        "value": "24000Mi",
        "requestPolicy": {"default": "24000Mi", "validRange": {"min": "1Mi", "max": "24000Mi", "step": "1Mi"}},
    }
    assert device["attributes"] == {"uuid": {"string": "GPU-0"}, "model": {"string": "RTX 3090"}, "index": {"int": 0}}


def test_amounts_are_spelled_as_the_api_server_keeps_them_and_read_back() -> None:
    assert memory_quantity(24576) == "24Gi"
    assert memory_quantity(1) == "1Mi"
    assert [memory_mib(memory_quantity(mib), "x") for mib in (1, 1024, 14000, 24576)] == [1, 1024, 14000, 24576]
    with pytest.raises(QuantityError, match=r"claim a/b: 1500k is no whole number of MiB"):
        memory_mib("1500k", "claim a/b")


def test_the_first_slice_is_the_nodes_own() -> None:
    action = decided()
    assert generation(action) == 1
    assert isinstance(action, Publish)
    assert action.manifest["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
    assert action.manifest["spec"]["pool"] == {"name": "gpu-node", "generation": 1, "resourceSliceCount": 1}


def test_a_slice_as_it_should_be_is_left_alone() -> None:
    assert isinstance(decided(stored()), Keep)
    tainted = (replace(KNOWN[0], lost=True), KNOWN[1])
    assert isinstance(decided(stored(tainted), known=tainted), Keep)


@pytest.mark.parametrize(
    "change",
    [
        lambda item: item["spec"]["devices"].pop(),
        lambda item: item["spec"]["devices"][0]["capacity"]["memory"].update(value="48Gi"),
        lambda item: item["spec"]["devices"][0].pop("allowMultipleAllocations"),
        lambda item: item["metadata"]["ownerReferences"][0].update(uid="uid-0"),
        lambda item: item["metadata"].pop("ownerReferences"),
        lambda item: item["metadata"]["annotations"].update({f"{naming.DRIVER}/boot-id": "boot-0"}),
    ],
)
def test_any_change_is_undone_in_a_new_generation(change: Any) -> None:
    item = stored(generation=4)
    change(item)
    assert generation(decided(item)) == 5


def test_a_deleted_slice_comes_back_in_a_higher_generation() -> None:
    assert generation(decided(last=7)) == 8


def test_a_taint_keeps_its_instant_when_the_slice_is_written_for_another_reason() -> None:
    first = (replace(KNOWN[0], lost=True), KNOWN[1])
    both = (first[0], replace(KNOWN[1], lost=True))
    action = decided(stored(first), known=both)
    assert isinstance(action, Publish)
    taints = [device["taints"][0] for device in action.manifest["spec"]["devices"]]
    assert taints[0] == {"key": f"{naming.DRIVER}/lost", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}
    assert "timeAdded" not in taints[1]


def test_slices_of_ours_under_other_names_go() -> None:
    action = decided(stored(), stored(name="left-over", generation=11))
    assert isinstance(action, Publish)
    assert [item["metadata"]["name"] for item in action.others] == ["left-over"]
    assert generation(action) == 12


def test_without_a_node_object_nothing_is_published() -> None:
    assert isinstance(decided(node=None), Keep)


def test_before_any_card_was_read_what_is_there_stays() -> None:
    assert isinstance(decided(stored(), known=None), Keep)
    assert isinstance(decided(known=None), Keep)


def test_a_node_without_cards_has_no_slice() -> None:
    assert decided(stored(), known=()) == Withdraw((stored(),), "the node has no card")
    assert isinstance(decided(known=()), Keep)


def test_where_nvidias_driver_shares_memory_nothing_is_published() -> None:
    assert isinstance(decided(NVIDIA), Keep)
    action = decided(NVIDIA, stored())
    assert isinstance(action, Withdraw)
    assert action.slices == (stored(),)
    assert NVIDIA_DRIVER in action.reason


def test_with_claims_still_prepared_the_slice_stays_but_takes_no_more() -> None:
    action = decided(NVIDIA, stored(), in_use=True)
    assert isinstance(action, Publish)
    taints = {taint["key"] for device in action.manifest["spec"]["devices"] for taint in device["taints"]}
    assert taints == {f"{naming.DRIVER}/nvidia-driver"}


@pytest.mark.parametrize("drop", ["allowMultipleAllocations", "capacity"])
def test_nvidias_driver_without_shared_memory_is_no_reason_to_stand_back(drop: str) -> None:
    exclusive = copy.deepcopy(NVIDIA)
    del exclusive["spec"]["devices"][0][drop]  # type: ignore[index]
    assert isinstance(decided(exclusive), Publish)


@pytest.mark.parametrize(
    ("runtime", "refused"),
    [
        ("containerd://1.6.20~ds1", True),
        ("containerd://1.7.0", False),
        ("containerd://v2.3.7", False),
        ("containerd://10.0.1", False),
        ("cri-o://1.33.2", False),
        ("", False),
    ],
)
def test_a_runtime_that_leaves_cdi_devices_out_gets_no_slice(runtime: str, refused: bool) -> None:
    node = replace(NODE, runtime=runtime)
    assert isinstance(decided(node=node), Keep if refused else Publish)
    assert isinstance(decided(stored(), node=node), Withdraw if refused else Keep)


def test_more_devices_than_a_slice_holds_are_refused_and_not_cut_off() -> None:
    many = tuple(replace(KNOWN[0], device=replace(KNOWN[0].device, name=f"gpu-{n}")) for n in range(65))
    assert len(many) == MOST_DEVICES_COUNT + 1
    with pytest.raises(CheckFailed, match=r"node gpu-node has 65 devices"):
        decided(known=many)


def test_an_earlier_agents_slice_is_read_back() -> None:
    known = (replace(KNOWN[0], xids=frozenset({48, 63})), replace(KNOWN[1], lost=True))
    read = published_devices(stored(known), "boot-1")
    assert [one.published() for one in read] == [replace(one.published(), card_uuid="") for one in known], (
        "all but the card of a MIG device"
    )


def test_hardware_errors_of_before_a_reboot_are_forgotten() -> None:
    (first, _) = published_devices(stored((replace(KNOWN[0], xids=frozenset({48})), KNOWN[1])), "boot-2")
    assert first.xids == frozenset()


def test_each_node_has_one_name_for_its_slice_however_long_its_own_is() -> None:
    assert slice_name("gpu-node") == "gpu-node-gpu.gpumem.io"
    long = ".".join(["n" * 60] * 4) + ".abc"
    assert len(long) <= 253
    assert is_dns_subdomain(slice_name(long))
    assert slice_name(long) != slice_name(long + "d")
