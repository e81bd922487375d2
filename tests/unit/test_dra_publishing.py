"""The publisher on an API server in memory: what it writes, what it says, and when it does neither."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from helpers.domain.dra.devices import FORGOTTEN_AFTER_LOOKS, Look, ReserveRule
from helpers.domain.dra.slice_document import MOST_DEVICES_COUNT
from helpers.domain.dra.slices import NVIDIA_DRIVER
from helpers.domain.telemetry.reading import Failure, Fault, Gpu
from helpers.ports.cluster import WatchEvent
from helpers.services.dra_board import NodeBoard
from helpers.services.dra_publish import (
    CONTEST_SPAN_SECONDS,
    CONTEST_WRITES_COUNT,
    Publisher,
    PublishPorts,
    PublishRules,
)
from tests.fakes.dra import NODE, FakeDraApi, FakeDraMetrics, FakeEvents, node
from tests.fakes.telemetry import FakeClock, FakeLog, reading

NAME = f"{NODE}-gpu.gpumem.io"
TWO = Look((reading(0, {}), reading(1, {})))
ONE = Look((reading(0, {}),))
SILENT = Look(None, Fault(Failure.DRIVER, "Driver Not Loaded"))
NVIDIA: dict[str, Any] = {
    "kind": "ResourceSlice",
    "metadata": {"name": "nvidia", "uid": "n"},
    "spec": {
        "driver": NVIDIA_DRIVER,
        "pool": {"name": NODE, "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "gpu-0", "allowMultipleAllocations": True, "capacity": {"memory": {"value": "1Gi"}}}],
    },
}


class Scene:
    """One node; `agent` is the process that runs now."""

    def __init__(self) -> None:
        self.api, self.events, self.metrics = FakeDraApi(), FakeEvents(), FakeDraMetrics()
        self.clock, self.log, self.board = FakeClock(), FakeLog(), NodeBoard()
        self.rules = PublishRules(NODE, ReserveRule(384))
        self.node = node()
        self.agent = self.started()

    def started(self, **rules: Any) -> Publisher:
        """A new process, which begins with what is on the API server."""
        ports = PublishPorts(self.api, self.events, self.metrics, self.clock, self.log)
        self.board = NodeBoard()
        self.agent = Publisher(ports, replace(self.rules, **rules), self.board)
        self.agent.begin([self.node], list(self.api.objects.values()))
        return self.agent

    def look(self, look: Look) -> None:
        self.agent.looked(look)
        self.agent.reconcile()

    def sees(self, item: dict[str, Any], kind: Any = "MODIFIED") -> None:
        self.agent.saw(WatchEvent(kind, item))
        self.agent.reconcile()

    @property
    def slice(self) -> dict[str, Any]:
        return self.api.objects["ResourceSlice", NAME]

    @property
    def generation(self) -> int:
        return int(self.slice["spec"]["pool"]["generation"])

    def reasons(self) -> list[str]:
        return [reason for reason, _ in self.events.written]


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.look(TWO)
    return scene


def test_what_is_published_is_said_on_the_node_and_in_figures(scene: Scene) -> None:
    assert scene.events.written == [("GpumemPublished", "generation 1, 2 devices: gpu-0 16000Mi, gpu-1 16000Mi")]
    assert (scene.metrics.devices, scene.metrics.generation) == (2, 1)
    assert set(scene.board.devices()) == {"gpu-0", "gpu-1"}
    assert scene.agent.settled


def test_looks_that_show_nothing_new_write_nothing(scene: Scene) -> None:
    for _ in range(5):
        scene.look(TWO)
    assert len(scene.api.applied) == 1


def test_a_card_that_comes_is_published(scene: Scene) -> None:
    scene.look(Look((*(TWO.readings or ()), reading(2, {}))))
    assert [one["name"] for one in scene.slice["spec"]["devices"]] == ["gpu-0", "gpu-1", "gpu-2"]
    assert scene.generation == 2


def test_more_devices_than_a_slice_holds_are_not_ready(scene: Scene) -> None:
    many = Look(tuple(reading(index, {}) for index in range(MOST_DEVICES_COUNT + 1)))
    scene.look(many)
    assert scene.reasons() == ["GpumemPublished", "GpumemNotPublished"]
    assert not scene.agent.settled, "what stands there is the slice of before"
    scene.started()
    scene.look(TWO)
    assert scene.agent.settled


def test_a_card_that_goes_is_tainted_then_removed(scene: Scene) -> None:
    scene.look(ONE)
    assert scene.metrics.taints == [("gpu-1", "gpu.gpumem.io/lost")]
    for _ in range(FORGOTTEN_AFTER_LOOKS):
        scene.look(ONE)
    assert [one["name"] for one in scene.slice["spec"]["devices"]] == ["gpu-0"]
    assert (scene.generation, scene.metrics.taints) == (3, [])


def test_a_card_that_goes_while_a_claim_is_on_it_stays_tainted(scene: Scene) -> None:
    scene.board.show_in_use(["GPU-1"])
    for _ in range(3 * FORGOTTEN_AFTER_LOOKS):
        scene.look(ONE)
    assert scene.metrics.taints == [("gpu-1", "gpu.gpumem.io/lost")]


def test_a_slice_that_somebody_deleted_or_changed_is_written_again(scene: Scene) -> None:
    scene.sees(scene.api.objects.pop(("ResourceSlice", NAME)), "DELETED")
    assert scene.generation == 2
    changed = scene.slice
    changed["spec"]["devices"] = []
    scene.sees(scene.api.put(changed))
    assert (len(scene.slice["spec"]["devices"]), scene.generation) == (2, 3)


def test_a_node_that_registers_again_owns_the_slice_anew(scene: Scene) -> None:
    scene.sees(scene.node, "DELETED")
    assert (len(scene.api.applied), scene.agent.settled) == (1, False)
    scene.sees(node(uid="node-uid-2"), "ADDED")
    assert scene.slice["metadata"]["ownerReferences"][0]["uid"] == "node-uid-2"
    assert scene.agent.settled


def test_a_new_process_takes_up_the_slice_as_it_is_also_where_the_driver_is_silent(scene: Scene) -> None:
    scene.started()
    assert set(scene.board.devices()) == {"gpu-0", "gpu-1"}, "claims can be prepared before the first look"
    for _ in range(3):
        scene.look(SILENT)
    assert scene.metrics.taints == [("gpu-0", "gpu.gpumem.io/unknown"), ("gpu-1", "gpu.gpumem.io/unknown")]
    assert [one["capacity"]["memory"]["value"] for one in scene.slice["spec"]["devices"]] == ["16000Mi"] * 2
    scene.look(TWO)
    assert scene.metrics.taints == []


def test_a_driver_that_never_answered_publishes_nothing() -> None:
    scene = Scene()
    for _ in range(5):
        scene.look(SILENT)
    assert (scene.api.applied, scene.agent.settled) == ([], False)
    assert scene.metrics.errors == ["look"] * 5
    assert scene.log.events() == ["card_not_as_it_should_be"], "said once"


def test_a_hardware_error_outlives_the_process_and_not_the_reboot(scene: Scene) -> None:
    scene.look(replace(TWO, xid_counts={(Gpu(0, "GPU-0", "Fake"), 79): 1}))
    taint = ("gpu-0", "gpu.gpumem.io/xid")
    scene.started()
    scene.look(TWO)
    assert scene.metrics.taints == [taint]
    scene.started(forget_xids=True)
    scene.look(TWO)
    assert scene.metrics.taints == []
    scene.look(replace(TWO, xid_counts={(Gpu(0, "GPU-0", "Fake"), 79): 1}))
    scene.node = node(boot_id="boot-2")
    scene.started()
    scene.look(TWO)
    assert scene.metrics.taints == []


def test_nvidias_driver_is_left_the_field_and_that_is_said(scene: Scene) -> None:
    scene.sees(scene.api.put(NVIDIA), "ADDED")
    assert scene.api.deleted == [NAME]
    assert scene.metrics.stands_back
    assert scene.metrics.devices == 0
    scene.look(TWO)
    assert scene.reasons() == ["GpumemPublished", "GpumemWithdrawn", "GpumemStandingBack"]
    scene.sees(NVIDIA, "DELETED")
    assert (scene.metrics.stands_back, scene.generation) == (False, 2)


def test_nvidias_driver_waits_for_the_last_claim_of_ours(scene: Scene) -> None:
    scene.board.show_in_use(["GPU-0"])
    scene.sees(scene.api.put(NVIDIA), "ADDED")
    assert scene.api.deleted == []
    assert scene.metrics.taints[0] == ("gpu-0", "gpu.gpumem.io/nvidia-driver")
    scene.board.show_in_use([])
    scene.look(TWO)
    assert scene.api.deleted == [NAME]


def test_whoever_writes_against_us_is_not_fought_without_end(scene: Scene) -> None:
    for _ in range(2 * CONTEST_WRITES_COUNT):
        scene.sees(scene.api.put({**scene.slice, "spec": {**scene.slice["spec"], "devices": []}}))
    assert len(scene.api.applied) == CONTEST_WRITES_COUNT
    assert "contested" in scene.metrics.errors
    scene.clock.seconds += CONTEST_SPAN_SECONDS
    scene.look(TWO)
    assert len(scene.slice["spec"]["devices"]) == 2


def test_a_server_that_drops_sharing_is_not_written_to_again_and_again() -> None:
    scene = Scene()

    def without_feature(item: dict[str, Any]) -> None:
        for device in item["spec"]["devices"]:
            device.pop("allowMultipleAllocations")

    scene.api.keep = without_feature
    for _ in range(5):
        scene.look(TWO)
    assert len(scene.api.applied) == 1
    assert scene.reasons() == ["GpumemPublished", "GpumemNotShared"]


@pytest.mark.parametrize(("runtime", "published"), [("containerd://1.6.20", False), ("containerd://2.1.4", True)])
def test_nothing_is_published_where_the_runtime_would_leave_the_card_out(runtime: str, published: bool) -> None:
    scene = Scene()
    scene.node["status"]["nodeInfo"]["containerRuntimeVersion"] = runtime
    scene.started()
    for _ in range(3):
        scene.look(TWO)
    assert bool(scene.api.applied) is published
    assert scene.reasons() == ["GpumemPublished" if published else "GpumemNotPublished"]


def test_a_runtime_that_may_have_cdi_off_is_said_once() -> None:
    scene = Scene()
    scene.node["status"]["nodeInfo"]["containerRuntimeVersion"] = "containerd://1.7.27"
    scene.started()
    scene.look(TWO)
    scene.look(ONE)
    assert scene.reasons() == ["GpumemPublished", "GpumemCdiToCheck", "GpumemPublished"]


def test_a_dry_run_says_what_it_would_write_and_writes_nothing() -> None:
    scene = Scene()
    scene.started(dry_run=True)
    scene.look(TWO)
    scene.look(TWO)
    assert (scene.api.applied, scene.events.written) == ([], [])
    ((level, event, fields),) = scene.log.lines
    assert (level, event, fields["decision"]) == ("info", "slice", "GpumemPublished")


def test_a_warning_from_elsewhere_waits_for_the_node() -> None:
    scene = Scene()
    scene.agent.saw(WatchEvent("DELETED", scene.node))
    scene.agent.note("GpumemCheckpointRebuilt", "its checksum is not that of its content")
    scene.agent.reconcile()
    assert scene.events.written == []
    scene.sees(scene.node, "ADDED")
    assert scene.events.written == [("GpumemCheckpointRebuilt", "its checksum is not that of its content")]
