"""Who publishes what, and where the real scheduler seats tenants by it: MIG instances, and NVIDIA's own driver.

Bare nodes: the pods' life is the lab's stand-in. The slice with MIG instances is the agent's own work, from readings
that stand in for NVML's; NVIDIA's is written as its driver does with the gate ConsumableShares.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import yaml

from helpers.adapters.clock import SystemClock
from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.domain.capacity import capacity_settings
from helpers.domain.dra.claims import claim_template_name, driver_of, with_claim
from helpers.domain.dra.devices import Look, ReserveRule
from helpers.domain.dra.naming import DEVICE_CLASS
from helpers.domain.dra.slices import NVIDIA_DRIVER
from helpers.domain.estate.model import Estate
from helpers.domain.ledger import build_ledger
from helpers.domain.memory import mib_to_bytes
from helpers.domain.telemetry.reading import DeviceReading, Gpu, GpuReading, MemoryReading
from helpers.ports.cluster import ObjectRef
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.render import render
from helpers.services.claims import SLICES, observe_cards, observe_held
from helpers.services.dra_board import NodeBoard
from helpers.services.dra_publish import Publisher, PublishPorts, PublishRules
from helpers.services.gate import verify
from lab.cluster import Lab, LabNode
from lab.waiting import wait_for
from tests.fakes.dra import FakeDraMetrics, FakeEvents
from tests.fakes.telemetry import NOW, FakeLog
from tests.unit.test_mig_cards import ESTATE, tenant

pytestmark = pytest.mark.lab

LABEL = "dra-publishers"
NO_ROOM = "cannot allocate all claims"
RTX_MIB = 24576


class Scene:
    """A node and a namespace of `name`, with an estate whose tenants are named by what they may use."""

    def __init__(self, lab: Lab, name: str, document: dict[str, Any], budgets_mib: dict[str, int]) -> None:
        self.lab, self.name = lab, name
        self.cluster: KubernetesCluster = connect(lab.kubeconfig)
        document["nodes"][0] |= {"selector": {LABEL: name}}
        document["tenants"] = [
            tenant(one, mib) | {"namespace": name, "node": document["nodes"][0]["name"]}
            for one, mib in budgets_mib.items()
        ]
        # A tenant too many is what some of these tests are about.
        self.estate: Estate = parse_estate(yaml.safe_dump(document), "estate.yaml", allow_overcommit=True)[0]

    def __enter__(self) -> Scene:
        self.lab.node_add(LabNode(self.name, {LABEL: self.name}, {}, "bare"))
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}, field_manager="test"
        )
        for item in render(self.estate).objects:
            if item.kind in ("DeviceClass", "ResourceClaimTemplate"):
                self.cluster.apply(self.mine(item.manifest), field_manager="test", force=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.lab.api().delete(f"/api/v1/namespaces/{self.name}")
        self.lab.api().delete(f"/apis/resource.k8s.io/v1/deviceclasses/{self.name}")
        self.lab.node_remove(self.name)

    def mine(self, manifest: Any) -> Any:
        """As rendered, but for the class's name: the cluster has one `gpumem`, and other tests use it."""
        document = copy.deepcopy(dict(manifest))
        if document["kind"] == "DeviceClass":
            document["metadata"]["name"] = self.name
        if document["kind"] == "ResourceClaimTemplate":
            for request in document["spec"]["spec"]["devices"]["requests"]:
                assert request["exactly"]["deviceClassName"] == DEVICE_CLASS
                request["exactly"]["deviceClassName"] = self.name
        return document

    def start(self, *tenants: str) -> None:
        """One pod of each, one after the other: the scheduler takes them as they come."""
        for name in tenants:
            found = self.estate.tenant(name)
            assert found is not None
            container = {"name": "main", "image": "registry.example.com/x:1"}
            spec = {"nodeSelector": {LABEL: self.name}, "containers": [container]}
            spec = with_claim(spec, "main", claim_template_name(self.estate, found))
            self.lab.api().post(f"/api/v1/namespaces/{self.name}/pods", {"metadata": {"name": name}, "spec": spec})
            wait_for(partial(self.decided, name), instead=partial(self.pod, name))

    def pod(self, name: str) -> dict[str, Any]:
        return self.lab.api().get(f"/api/v1/namespaces/{self.name}/pods/{name}")

    def decided(self, name: str) -> bool:
        return self.runs(name) or self.waits(name)

    def runs(self, name: str) -> bool:
        return bool(self.pod(name)["status"]["phase"] == "Running")

    def waits(self, name: str) -> bool:
        """Whether the scheduler said that no card has room for it."""
        told = self.pod(name)["status"].get("conditions", ())
        return any(one["type"] == "PodScheduled" and NO_ROOM in one.get("message", "") for one in told)

    def seats(self) -> dict[str, tuple[str, int]]:
        """`{pod: (device, MiB)}`."""
        held = observe_held(self.cluster, driver_of(self.estate))
        return {pod: (one.key[2], one.memory_mib) for one in held if one.namespace == self.name for pod in one.pods}


def reading(index: int, model: str, mib: int, instances: int = 0) -> GpuReading:
    """A card of `mib`, or of as many MIG instances of profile 1g.10gb, each of `mib`."""
    card = Gpu(index, f"GPU-{LABEL}-{index}", model)
    parts = [Gpu(index, f"MIG-{LABEL}-{n}", model, n, f"{model} MIG 1g.10gb") for n in range(instances)]
    memory = MemoryReading(mib_to_bytes(mib), 0, mib_to_bytes(mib), 0)
    return GpuReading(card, tuple(DeviceReading(one, NOW, 1.0, memory, {}) for one in parts or [card]))


def publish_as_the_agent(scene: Scene, *readings: GpuReading) -> None:
    """What the agent on the node writes of them, by the estate's reserves and profiles."""
    (node,) = scene.estate.nodes
    (divided,) = [gpu.mig for gpu in node.gpus if gpu.mig]
    reserve = ReserveRule(by_model_mib={gpu.model: gpu.reserve_mib for gpu in node.gpus}, mig_mib=divided.reserve_mib)
    rules = PublishRules(scene.name, reserve, frozenset(one.profile for one in divided.instances))
    ports = PublishPorts(scene.cluster, FakeEvents(), FakeDraMetrics(), SystemClock(), FakeLog())
    agent = Publisher(ports, rules, NodeBoard())
    found = scene.cluster.get(ObjectRef("v1", "Node", scene.name))
    assert found is not None
    agent.begin([found], [])
    agent.looked(Look(readings))
    agent.reconcile()
    assert agent.settled


@pytest.fixture
def divided(lab: Lab) -> Iterator[Scene]:
    """One A100 in seven instances of 9600 MiB, and beside it a whole T4 of 14000."""
    budgets_mib = {"card": 14000, "too-large": 9601, **{f"one-{n}": 9600 for n in range(6)}}
    budgets_mib |= {"half": 5000, "rest": 4600, "eighth": 4601}
    with Scene(lab, "dra-publishers-mig", yaml.safe_load(ESTATE), budgets_mib) as scene:
        a100, t4 = scene.estate.nodes[0].gpus
        publish_as_the_agent(scene, reading(0, a100.model, 9728, instances=7), reading(1, t4.model, t4.physical_mib))
        yield scene


def test_the_scheduler_seats_tenants_on_mig_instances_by_mib_alone(divided: Scene) -> None:
    assert verify(divided.cluster, capacity_settings(divided.estate), SystemClock(), 0) == ()
    assert not build_ledger(divided.estate).nodes[0].seated
    divided.start("card", "too-large")
    assert divided.runs("card")
    assert divided.waits("too-large"), "67200 MiB are free, and no instance has 9601"
    ones = [f"one-{number}" for number in range(6)]
    divided.start(*ones, "half", "rest", "eighth")
    seats = divided.seats()
    assert seats["card"] == ("gpu-1", 14000)
    assert {seats[one][0] for one in ones} < {f"gpu-0-mig-{number}" for number in range(7)}
    assert len({seats[one][0] for one in (*ones, "half")}) == 7
    assert seats["rest"] == (seats["half"][0], 4600)
    assert {one.name for one in divided.estate.tenants if divided.waits(one.name)} == {"too-large", "eighth"}


def nvidias_slice(scene: Scene, *, shared: bool) -> dict[str, Any]:
    """One card as NVIDIA's driver publishes it, with `consumableShares: memory` or without."""
    found = scene.cluster.get(ObjectRef("v1", "Node", scene.name))
    assert found is not None
    text = {"type": "gpu", "uuid": f"GPU-{scene.name}-0", "productName": "NVIDIA GeForce RTX 3090"}
    text |= {"brand": "GeForce", "architecture": "Ampere"}
    versions = {"cudaComputeCapability": "8.6.0", "driverVersion": "580.95.5", "cudaDriverVersion": "13.0.0"}
    attributes = {key: {"string": value} for key, value in text.items()}
    attributes |= {key: {"version": value} for key, value in versions.items()}
    memory: dict[str, Any] = {"value": f"{RTX_MIB}Mi"}
    device: dict[str, Any] = {"name": "gpu-0", "attributes": attributes, "capacity": {"memory": memory}}
    if shared:
        memory["requestPolicy"] = {
            "default": f"{RTX_MIB}Mi",
            "validRange": {"min": "1Mi", "max": f"{RTX_MIB}Mi", "step": "1Mi"},
        }
        device["allowMultipleAllocations"] = True
    owner = {"apiVersion": "v1", "kind": "Node", "name": scene.name, "uid": found["metadata"]["uid"]}
    return {
        "apiVersion": SLICES.api_version,
        "kind": "ResourceSlice",
        "metadata": {"name": f"{scene.name}-{NVIDIA_DRIVER}", "ownerReferences": [owner]},
        "spec": {
            "driver": NVIDIA_DRIVER,
            "nodeName": scene.name,
            "pool": {"name": scene.name, "generation": 1 + shared, "resourceSliceCount": 1},
            "devices": [device],
        },
    }


@pytest.fixture
def nvidias(lab: Lab) -> Iterator[Scene]:
    """An estate whose cards NVIDIA's driver publishes."""
    document = yaml.safe_load(ESTATE)
    document["budget"]["published_by"] = "nvidia"
    card = {"model": "NVIDIA GeForce RTX 3090", "count": 1, "physical_mib": RTX_MIB, "reserve_mib": 0}
    document["nodes"][0] |= {"gpus": [card]}
    with Scene(lab, "dra-publishers-nvidia", document, {"first": 16000, "second": 16000, "third": 8000}) as scene:
        yield scene


def test_claims_take_cards_that_nvidias_driver_shares_and_no_others(nvidias: Scene) -> None:
    nvidias.cluster.apply(nvidias_slice(nvidias, shared=False), field_manager="nvidia", force=True)
    nvidias.start("first")
    assert nvidias.waits("first"), "the card is for one claim alone"
    assert observe_cards(nvidias.cluster, NVIDIA_DRIVER) == ()
    nvidias.cluster.apply(nvidias_slice(nvidias, shared=True), field_manager="nvidia", force=True)
    wait_for(partial(nvidias.runs, "first"), instead=partial(nvidias.pod, "first"))
    nvidias.start("second", "third")
    assert nvidias.waits("second")
    assert nvidias.seats() == {"first": ("gpu-0", 16000), "third": ("gpu-0", 8000)}
    (offered,) = observe_cards(nvidias.cluster, NVIDIA_DRIVER)
    assert (offered.node, offered.uuid, offered.memory_mib) == (nvidias.name, f"GPU-{nvidias.name}-0", RTX_MIB)
