"""Which claims may be prepared, and what their containers are told."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.domain.dra import naming
from helpers.domain.dra.devices import Device, Taint
from helpers.domain.dra.prepared import ClaimRef, ClaimRefused, PreparedClaim, cdi_spec, from_cdi_spec, prepared_claim
from helpers.domain.errors import CheckFailed, QuantityError
from tests.fakes.dra import NODE, UID, claim

REF = ClaimRef("tenants", "chat", UID)
DEVICES = {
    "gpu-0": Device("gpu-0", "GPU-a", "RTX 3090", 0, 24000),
    "gpu-1": Device("gpu-1", "GPU-b", "RTX 3090", 1, 24000),
    "gpu-2": Device("gpu-2", "GPU-c", "RTX 3090", 2, 24000, taints=(Taint("lost", "NoExecute"),)),
    "gpu-3": Device("gpu-3", "GPU-d", "RTX 3090", 3, 24000, taints=(Taint("unknown", "NoSchedule"),)),
}


def made(found: Any, ref: ClaimRef = REF) -> PreparedClaim:
    return prepared_claim(ref, found, node=NODE, devices=DEVICES)


def env(prepared: PreparedClaim) -> dict[str, str]:
    (device,) = cdi_spec(prepared)["devices"]
    return dict(line.split("=", 1) for line in device["containerEdits"]["env"])


def test_a_claim_is_told_its_card_and_its_budget() -> None:
    prepared = made(claim("gpu-1", memory="16000Mi"))
    assert env(prepared) == {
        "NVIDIA_VISIBLE_DEVICES": "GPU-b",
        "GPUMEM_BUDGET_MIB": "16000",
        "GPUMEM_CLAIM": "tenants/chat",
    }
    assert prepared.cdi_id == f"{naming.DRIVER}/claim=claim-{UID}"
    (grant,) = prepared.grants
    assert (grant.request, grant.pool, grant.device, grant.share_id) == ("gpu", NODE, "gpu-1", "share-0")


def test_several_cards_of_one_request_are_seen_together_each_with_the_same_budget() -> None:
    prepared = made(claim("gpu-0", "gpu-1", memory="8Gi"))
    assert env(prepared)["NVIDIA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert env(prepared)["GPUMEM_BUDGET_MIB"] == "8192"


def test_two_shares_of_one_card_are_one_budget() -> None:
    prepared = made(claim("gpu-0", "gpu-0", memory="8Gi"))
    assert env(prepared)["NVIDIA_VISIBLE_DEVICES"] == "GPU-a"
    assert env(prepared)["GPUMEM_BUDGET_MIB"] == "16384"


def test_devices_of_other_drivers_are_theirs_to_prepare() -> None:
    found = claim("gpu-0")
    found["status"]["allocation"]["devices"]["results"].append(
        {"request": "nic", "driver": "nic.example.com", "pool": "elsewhere", "device": "nic-0"}
    )
    assert made(found).uuids() == ("GPU-a",)


def test_the_alternative_of_a_request_is_given_back_as_the_request() -> None:
    assert made(claim("gpu-0", request="gpu/small")).grants[0].request == "gpu"


def test_a_card_of_unknown_state_may_still_be_used_by_what_was_placed_on_it() -> None:
    assert made(claim("gpu-3")).uuids() == ("GPU-d",)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "claim tenants/chat: there is none"),
        (claim("gpu-0", uid="another"), f"uid {UID} was asked for, another is there"),
        (claim("gpu-0") | {"status": {}}, "it has no allocation"),
        (claim(), "has no device of driver gpu.gpumem.io"),
        (claim("gpu-0", driver="gpu.nvidia.com"), "has no device of driver gpu.gpumem.io"),
        (claim("gpu-0", pool="other-node"), "device gpu-0 is of pool other-node, and this is node gpu-node"),
        (claim("gpu-9"), "device gpu-9 is not on node gpu-node (there: gpu-0, gpu-1, gpu-2, gpu-3)"),
        (claim("gpu-2"), "device gpu-2 (GPU-c) is lost"),
        (claim("gpu-0", memory=None), "feature gate DRAConsumableCapacity"),
        (claim("gpu-0", adminAccess=True), "adminAccess gets no budget"),
    ],
)
def test_what_is_not_this_nodes_to_give_is_refused(found: Any, said: str) -> None:
    with pytest.raises(ClaimRefused) as refused:
        made(found)
    assert said in str(refused.value)


def test_two_requests_in_a_claim_are_refused() -> None:
    found = claim("gpu-0", "gpu-1")
    found["status"]["allocation"]["devices"]["results"][1]["request"] = "second"
    with pytest.raises(ClaimRefused, match="make a claim for each container"):
        made(found)


def test_an_amount_that_is_no_whole_mib_is_refused() -> None:
    with pytest.raises(QuantityError, match="claim tenants/chat consumedCapacity: 1500k is no whole number of MiB"):
        made(claim("gpu-0", memory="1500k"))


@pytest.mark.parametrize("uid", ["", "../../etc/passwd", "a/b", "A", "x" * 200])
def test_a_uid_that_could_lead_out_of_the_folder_is_refused(uid: str) -> None:
    with pytest.raises(ClaimRefused, match="is no uid"):
        made(claim("gpu-0", uid=uid), ClaimRef("tenants", "chat", uid))


def test_a_specification_tells_what_it_was_made_from() -> None:
    prepared = made(claim("gpu-0", "gpu-1", memory="8Gi"))
    read = from_cdi_spec(cdi_spec(prepared))
    assert (read.namespace, read.name, read.uid, read.uuids()) == ("tenants", "chat", UID, ("GPU-a", "GPU-b"))
    assert (read.budget_mib(), cdi_spec(read)) == (8192, cdi_spec(prepared))


@pytest.mark.parametrize("document", [{}, [], {"devices": []}, {"devices": [{"name": "x"}]}, None])
def test_another_document_is_no_specification_of_ours(document: Any) -> None:
    with pytest.raises(CheckFailed, match=r"no CDI specification of gpu\.gpumem\.io"):
        from_cdi_spec(document)
