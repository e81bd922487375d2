"""What the agent may do is what it needs: with one verb fewer it stops, or says which one it lacks."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from helpers.adapters.cdi_files import CdiFolder
from helpers.adapters.clock import SystemClock
from helpers.adapters.dra_checkpoint import CheckpointFile
from helpers.adapters.events import KubernetesEvents
from helpers.adapters.kubernetes_ import connect
from helpers.domain.dra.devices import ReserveRule
from helpers.domain.dra.prepared import ClaimRef
from helpers.domain.dra.rights import dra_agent_rights
from helpers.domain.dra.slice_document import slice_name
from helpers.domain.errors import Forbidden, GpumemError
from helpers.services.dra_board import NodeBoard
from helpers.services.dra_loop import DraLoop
from helpers.services.dra_prepare import PreparePorts, Preparer
from helpers.services.dra_publish import Publisher, PublishPorts, PublishRules
from lab.cluster import Lab, LabNode
from lab.dra_agent_process import RESOURCES
from lab.rights import grant_rights
from lab.waiting import wait_for
from tests.fakes.dra import FakeDraMetrics
from tests.fakes.telemetry import FakeDevices, FakeLog, reading

pytestmark = pytest.mark.lab

NODE, NAMESPACE = "dra-rights", "dra-rights"
SLICE = f"{RESOURCES}/resourceslices/{slice_name(NODE)}"


@dataclass
class Run:
    """The publisher in a thread, as that account; `error` is what ended it."""

    lab: Lab
    kubeconfig: Path
    log: FakeLog = field(default_factory=FakeLog)
    error: GpumemError | None = None

    def __post_init__(self) -> None:
        api, clock, metrics = connect(self.kubeconfig), SystemClock(), FakeDraMetrics()
        events = KubernetesEvents(api, component="gpumem-dra-agent", instance="test", clock=clock, log=self.log)
        rules = PublishRules(NODE, ReserveRule(384))
        publisher = Publisher(PublishPorts(api, events, metrics, clock, self.log), rules, NodeBoard())
        self.ended = threading.Event()
        self.loop = DraLoop(
            publisher,
            api=api,
            devices=FakeDevices([(reading(0, {}),)]),
            metrics=metrics,
            clock=clock,
            log=self.log,
            node_name=NODE,
            interval_seconds=0.1,
        )
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.loop.run(self.ended.is_set)
        except GpumemError as error:
            self.error = error

    def stop(self) -> None:
        self.ended.set()
        self.thread.join(30)


@pytest.fixture(scope="module")
def home(lab: Lab) -> Iterator[Lab]:
    lab.api().post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    lab.node_add(LabNode(NODE, {}, {}, "bare"))
    yield lab
    lab.node_remove(NODE)
    lab.api().delete(f"/api/v1/namespaces/{NAMESPACE}")


def account(lab: Lab, number: int, without: str = "") -> Path:
    """Each its own: the authorizer learns of a changed role a moment later."""
    places: Any = [("cluster", ""), ("default", "default")]
    return grant_rights(lab, NAMESPACE, f"agent-{number}", dra_agent_rights(), places, without=without)


NVIDIA = {
    "metadata": {"name": "dra-rights-nvidia"},
    "spec": {
        "driver": "gpu.nvidia.com",
        "nodeName": NODE,
        "pool": {"name": NODE, "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "gpu-0", "allowMultipleAllocations": True, "capacity": {"memory": {"value": "1Gi"}}}],
    },
}


def test_all_rights_suffice_for_publishing_and_standing_back(home: Lab) -> None:
    run, api = Run(home, account(home, 0)), home.api()
    try:
        wait_for(lambda: api.exists(SLICE))
        api.post(f"{RESOURCES}/resourceslices", NVIDIA)
        wait_for(lambda: not api.exists(SLICE))
    finally:
        run.stop()
        api.delete(f"{RESOURCES}/resourceslices/dra-rights-nvidia")
    assert run.error is None
    assert not [line for line in run.log.lines if line[0] != "info"]


@pytest.mark.parametrize(
    ("number", "verb"),
    [
        (1, "list nodes"),
        (2, "watch nodes"),
        (3, "list resourceslices"),
        (4, "watch resourceslices"),
        (5, "create resourceslices"),
        (6, "patch resourceslices"),
        (7, "delete resourceslices"),
    ],
)
def test_without_one_right_the_agent_ends_and_names_it(home: Lab, number: int, verb: str) -> None:
    api = home.api()
    if verb.startswith("delete"):
        api.post(f"{RESOURCES}/resourceslices", NVIDIA | {"metadata": {"name": "dra-rights-nvidia"}})
        left = NVIDIA["spec"] | {"driver": "gpu.gpumem.io", "devices": []}  # type: ignore[operator]
        api.post(f"{RESOURCES}/resourceslices", {"metadata": {"name": "dra-rights-left"}, "spec": left})
    run = Run(home, account(home, number, without=verb))
    try:
        wait_for(lambda: not run.thread.is_alive())
    finally:
        run.stop()
        for name in (slice_name(NODE), "dra-rights-nvidia", "dra-rights-left"):
            api.delete(f"{RESOURCES}/resourceslices/{name}")
    assert isinstance(run.error, Forbidden)
    does, resource = verb.split()
    assert f'cannot {does} resource "{resource}"' in str(run.error)


def test_without_the_right_to_events_the_slice_is_published_and_that_is_said(home: Lab) -> None:
    run, api = Run(home, account(home, 8, without="create events")), home.api()
    try:
        wait_for(lambda: [line for line in run.log.lines if line[1] == "event_not_written"])
        assert api.exists(SLICE)
    finally:
        run.stop()
        api.delete(SLICE)


def test_without_the_right_to_claims_none_is_prepared_and_the_kubelet_hears_why(home: Lab) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name), FakeLog()
        api = connect(account(home, 9, without="get resourceclaims"))
        ports = PreparePorts(api, CheckpointFile(folder / "c"), CdiFolder(folder / "cdi"), FakeDraMetrics(), log)
        preparer = Preparer(ports, node_name=NODE, board=NodeBoard())
        answers = preparer.prepare([ClaimRef(NAMESPACE, "chat", "a-uid")])
    assert 'cannot get resource "resourceclaims"' in str(answers["a-uid"])
