"""Exporter, capacity watch and watchdog as pods of a real kubelet; tenants that are real containers.

The objects are the rendered ones. Besides mounts that show pods this machine's Python, nothing in
them is changed: images, rights, probes, limits, addresses and the pods' own network are as an estate
gets them. Only the card is simulated; the processes that hold its memory are not.
"""

from __future__ import annotations

import os
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from helpers.domain import names
from helpers.domain.estate.model import Estate
from helpers.domain.memory import BYTES_PER_MIB
from helpers.domain.telemetry import metric_names
from helpers.domain.watchdog.rights import EXPORTER_SERVICE, WATCHDOG_COMPONENT
from helpers.rendering.estate_file import load_estate
from helpers.rendering.manifest_yaml import to_yaml
from helpers.rendering.objects import RenderedObject
from helpers.rendering.render import render
from lab import cluster, real_kubelet
from lab.api import Object
from lab.cluster import Lab
from lab.real_kubelet import NODE_NAME, DriverOfProcesses, RealNode
from lab.real_kubelet.driver import is_running
from lab.real_kubelet.footprint import FIXED_PATHS, FOLDER, cgroup_roots
from lab.real_kubelet.images import TENANT_IMAGE, with_this_machine
from lab.real_kubelet.network import BRIDGE, POD_RANGE
from lab.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(170, func_only=True)]  # what starts and builds has its own bounds

PHYSICAL_MIB, RESERVE_MIB, FLOOR_MIB = 15360, 1360, 1536
DRIVER_MIB, HOST_PROCESS_MIB = 400, 300  # within what the estate sets aside
LABELS = {"nvidia.com/gpu.present": "true"}
HELPERS = (EXPORTER_SERVICE, WATCHDOG_COMPONENT, "gpumem-capacity-watch")
BUDGETS_MIB = {"steady": 4000, "growing": 3000, "giving": 2000}
# Whoever is asked leaves a trace in its own file system; one gives memory back, the other cannot.
HOOKS = {"giving": "echo asked > /asked; echo giving back", "growing": "echo nothing to give; exit 3"}
ESTATE = f"""
version: 1
kubernetes: {{version: "1.36"}}
resource: viktorbarzin.me/gpumem
image: {{repository: registry.example.com/gpumem, tag: "0.1.0"}}
device_plugin: {{managed_by: gpu-operator}}
nodes:
  - name: t4-node
    selector: {{nvidia.com/gpu.present: "true"}}
    gpus: [{{model: Tesla T4, count: 1, physical_mib: {PHYSICAL_MIB}, reserve_mib: {RESERVE_MIB}}}]
    sharing: {{timeSlicing: {{resources: [{{name: nvidia.com/gpu, replicas: 8}}]}}}}
watchdog: {{floor_mib: {FLOOR_MIB}, dry_run: false, interval_seconds: 1, allow_exec: true}}
tenants:
"""
TENANT = """
  - name: {name}
    namespace: tenants
    workload: {{kind: Deployment, name: {name}, container: main}}
    node: t4-node
    apply: create
    budget_mib: {budget_mib}
    class: realtime
    pod:
      terminationGracePeriodSeconds: 3
      containers:
        - name: main
          image: {image}
          command: [sh, -c, "trap 'exit 0' TERM; sleep 3600 & wait"]
"""
HOOK = """
    watchdog: {{release_hook: {{command: [sh, -c, "{script}"]}}}}
"""


@dataclass(frozen=True)
class World:
    """The estate, applied to a lab whose one node is real."""

    lab: Lab
    estate: Estate
    driver: DriverOfProcesses

    def pod(self, namespace: str, prefix: str) -> Object | None:
        """The one pod of that workload that is ready and not on its way out."""
        items = self.lab.api().get(f"/api/v1/namespaces/{namespace}/pods")["items"]
        mine = [one for one in items if one["metadata"]["name"].startswith(prefix) and _is_ready(one)]
        return mine[0] if mine else None

    def measured_mib(self) -> dict[str, int]:
        """What the exporter's pod says now, in MiB by pod, with `free` and `unattributed`; {}: not ready."""
        exporter = self.pod(self.estate.namespace, EXPORTER_SERVICE)
        if exporter is None:
            return {}
        url = f"http://{exporter['status']['podIP']}:{names.EXPORTER_PORT}/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            found = text_string_to_metric_families(answer.read().decode())
            samples = [sample for family in found for sample in family.samples]
        short = {metric_names.FREE: "free", metric_names.UNATTRIBUTED: "unattributed"}
        mib = {short[s.name]: int(s.value) // BYTES_PER_MIB for s in samples if s.name in short}
        pods = [s for s in samples if s.name == metric_names.POD_USED]
        return mib | {s.labels["pod"]: int(s.value) // BYTES_PER_MIB for s in pods}

    def wait(self, look: Callable[[], Any]) -> Any:
        """Waits while processes come and go."""

        def refreshed() -> Any:
            self.driver.refresh()
            return look()

        return wait_for(refreshed)


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def container(pod: Object) -> Object:
    status: Object = pod["status"]["containerStatuses"][0]
    return status


def hook(tenant: str) -> str:
    return HOOK.format(script=HOOKS[tenant]) if tenant in HOOKS else ""


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Estate:
    tenants = [TENANT.format(name=n, budget_mib=mib, image=TENANT_IMAGE) + hook(n) for n, mib in BUDGETS_MIB.items()]
    file = tmp_path_factory.mktemp("estate") / "gpumem.yaml"
    file.write_text(ESTATE + "".join(tenants))
    return load_estate(file)[0]


@pytest.fixture  # not of the module: the second test looks at what is left after its end
def world(real_node_turn: None, estate: Estate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("real")
    try:
        lab = cluster.up("real-pods", [], root, print)
        with real_kubelet.joined(lab, LABELS, estate.image.reference(), print) as node:
            node.advertise({"nvidia.com/gpu": 8})
            driver = DriverOfProcesses(node.driver_folder, "GPU-0", PHYSICAL_MIB, DRIVER_MIB, "Tesla T4")
            driver.refresh()
            apply(lab, node, estate)
            yield World(lab, estate, driver)
    finally:
        cluster.down("real-pods", root)


def apply(lab: Lab, node: RealNode, estate: Estate) -> None:
    """Everything that the estate renders to, in its order, as a user without Terraform would."""
    objects = [item for item in render(estate).ordered() if isinstance(item, RenderedObject)]
    image = estate.image.reference()
    documents = [to_yaml(with_this_machine(item.manifest, image, node.driver_folder)) for item in objects]
    kubectl = [str(lab.bin("kubectl")), f"--kubeconfig={lab.kubeconfig}", f"--cache-dir={lab.dir / 'kubectl'}"]
    command = [*kubectl, "apply", "--server-side", "-f", "-"]
    done = subprocess.run(command, input="---\n".join(documents), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_real_containers_are_measured_and_only_the_one_over_its_budget_is_recycled(world: World) -> None:
    """Memory is attributed through cgroups that a kubelet made; the recycled container's process really ends.

    Before it, another tenant over its budget is asked by a command in its container, gives memory
    back and is spared; the recycled one was asked as well and said no.
    """
    system = world.estate.namespace
    helpers = {name: world.wait(partial(world.pod, system, name)) for name in HELPERS}
    tenants = {name: world.wait(partial(world.pod, "tenants", name)) for name in BUDGETS_MIB}

    addresses = [helpers[name]["status"]["podIP"] for name in HELPERS]
    assert all(ip_address(address) in ip_network(POD_RANGE) for address in addresses), "each has a network of its own"

    # Tenants could only be placed because the capacity watch, a pod itself, had written the node's number.
    allocatable = world.lab.api().get(f"/api/v1/nodes/{NODE_NAME}")["status"]["allocatable"]
    assert allocatable[world.estate.resource] == "14k"

    pods = {name: pod["metadata"]["name"] for name, pod in tenants.items()}
    pids = {}
    for name, mib in (("steady", 3500), ("growing", 2500), ("giving", 100)):
        pids[name] = world.driver.hold(container(tenants[name])["containerID"], mib)
        # The pod's own cgroup, under whichever driver and version this machine has.
        assert tenants[name]["metadata"]["uid"] in Path(f"/proc/{pids[name]}/cgroup").read_text().replace("_", "-")
    world.driver.held_mib[os.getpid()] = HOST_PROCESS_MIB  # this very process, which is in no pod
    free_mib = PHYSICAL_MIB - DRIVER_MIB - HOST_PROCESS_MIB - 6100
    measured = {"unattributed": HOST_PROCESS_MIB, pods["steady"]: 3500, pods["giving"]: 100}
    expected = measured | {pods["growing"]: 2500, "free": free_mib}
    world.wait(lambda: world.measured_mib() == expected)

    world.driver.hold(container(tenants["giving"])["containerID"], 8000)
    world.wait(Path(f"/proc/{pids['giving']}/root/asked").exists)
    world.driver.hold(container(tenants["giving"])["containerID"], 100)
    spared = world.wait(lambda: _recycled(world.lab).get(pods["giving"]))
    assert spared.startswith("released: the release hook gave back enough; given back: 7900 MiB")
    assert spared.endswith("the release hook answered: exit status 0 giving back")

    world.driver.hold(container(tenants["growing"])["containerID"], 10_700)
    successor = world.wait(lambda: _successor(world.pod("tenants", "growing"), tenants["growing"]))

    assert not is_running(pids["growing"])
    assert container(successor)["containerID"] != container(tenants["growing"])["containerID"]
    world.wait(lambda: world.measured_mib() == measured | {"free": free_mib + 2500})

    for name in ("steady", "giving"):
        assert is_running(pids[name])
        assert untouched(world, "tenants", tenants[name])
    for pod in helpers.values():
        assert untouched(world, system, pod)
    said = world.wait(lambda: _recycled(world.lab).get(pods["growing"]))
    assert said.startswith("evicted: ")
    assert said.endswith("the release hook answered: failed: exit status 3 nothing to give")
    assert set(_recycled(world.lab)) == {pods["giving"], pods["growing"]}


def _successor(now: Object | None, before: Object) -> Object | None:
    return now if now is not None and now["metadata"]["uid"] != before["metadata"]["uid"] else None


def untouched(world: World, namespace: str, before: Object) -> bool:
    """The same pod, with the same containers, none of which was ever started again."""
    path = f"/api/v1/namespaces/{namespace}/pods/{before['metadata']['name']}"
    now = container(world.lab.api().get(path))
    return bool(now["containerID"] == container(before)["containerID"] and now["restartCount"] == 0)


def _recycled(lab: Lab) -> dict[str, str]:
    """`{pod: message}` of those about which the watchdog says that it recycled them, or spared them in the end."""
    events = lab.api().get("/api/v1/events")["items"]
    return {one["involvedObject"]["name"]: one["message"] for one in events if one["reason"] == "GpumemRecycled"}


@pytest.mark.usefixtures("real_node_turn")
def test_nothing_of_the_node_stays_on_this_machine() -> None:
    """Runs after the world's end; also where the node broke while it started."""
    assert not FOLDER.exists()
    assert not Path("/sys/class/net", BRIDGE).exists()
    assert not any((root / "kubepods").exists() for root in cgroup_roots())
    assert str(FOLDER) not in Path("/proc/self/mounts").read_text()
    assert not Path(FIXED_PATHS[0]).exists()
