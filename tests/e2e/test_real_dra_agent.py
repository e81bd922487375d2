"""The rendered agent as a pod of a real kubelet: it publishes the node's cards and tells tenants' containers theirs.

The objects are the rendered ones: mounts, settings, rights, user, probes and limits, the policy that keeps an agent to
its node, the claim templates and the tenants. Added are only mounts that show the helpers' pods this machine's Python.
The cards are simulated; the containers are not.
"""

from __future__ import annotations

import re
import subprocess
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from helpers.domain.dra import naming
from helpers.domain.dra.rights import DRA_AGENT_COMPONENT, DRA_AGENT_METRICS_PORT
from helpers.domain.estate.model import Estate
from helpers.domain.memory import BYTES_PER_MIB
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.manifest_yaml import to_yaml
from helpers.rendering.objects import RenderedObject
from helpers.rendering.render import render
from lab import cluster, real_kubelet
from lab.api import Object
from lab.cluster import Lab
from lab.dra_agent_process import RESOURCES, rtx
from lab.fake_nvml.state import FakeDriver
from lab.real_kubelet import NODE_NAME, RealNode
from lab.real_kubelet.containerd import containerd_with_cdi
from lab.real_kubelet.driver import first_process
from lab.real_kubelet.footprint import CDI_PATH
from lab.real_kubelet.images import DRIVER_STATE, TENANT_IMAGE, with_this_machine
from lab.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300, func_only=True)]  # what starts and builds has its own bounds

SYSTEM, NAMESPACE, CARD_MIB, BUDGET_MIB = "nvidia", "tenants", 24000, 16000
LABELS = {"nvidia.com/gpu.present": "true"}
TENANTS = ("one", "two")
ESTATE = f"""
version: 1
kubernetes: {{version: "1.36"}}
resource: viktorbarzin.me/gpumem
namespace: {SYSTEM}
image: {{repository: registry.example.com/gpumem, tag: "0.1.0"}}
device_plugin: {{managed_by: gpu-operator}}
budget: {{backend: dra}}
nodes:
  - name: gpu-worker
    selector: {{nvidia.com/gpu.present: "true"}}
    gpus: [{{model: NVIDIA GeForce RTX 3090, count: 2, physical_mib: 24576, reserve_mib: 576}}]
    sharing: {{timeSlicing: {{resources: [{{name: nvidia.com/gpu, replicas: 4}}]}}}}
watchdog: {{floor_mib: 2048}}
tenants:
"""
TENANT = """
  - name: {name}
    namespace: {namespace}
    workload: {{kind: Deployment, name: {name}, container: main}}
    node: gpu-worker
    apply: create
    budget_mib: {budget_mib}
    class: realtime
    pod:
      terminationGracePeriodSeconds: 1
      containers:
        - name: main
          image: {image}
          command: [sh, -c, "trap 'exit 0' TERM; sleep 3600 & wait"]
"""


@pytest.fixture(scope="module")
def estate() -> Estate:
    shared = {"namespace": NAMESPACE, "budget_mib": BUDGET_MIB, "image": TENANT_IMAGE}
    text = ESTATE + "".join(TENANT.format(name=name, **shared) for name in TENANTS)
    return parse_estate(text, "the test's estate")[0]


@pytest.fixture
def lab(real_node_turn: None, estate: Estate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if Path(CDI_PATH).exists():
        pytest.skip(f"{CDI_PATH} is there: this machine tells a container runtime of its own about devices")
    root = tmp_path_factory.mktemp("real-agent")
    try:
        lab = cluster.up("real-agent", [], root, print)
        image, containerd = estate.image.reference(), containerd_with_cdi(print)
        with real_kubelet.joined(lab, LABELS, image, print, containerd=containerd) as node:
            FakeDriver((rtx(0), rtx(1))).write(node.driver_folder / DRIVER_STATE)
            apply(lab, node, estate)
            yield lab
    finally:
        cluster.down("real-agent", root)


def apply(lab: Lab, node: RealNode, estate: Estate) -> None:
    """Everything that the estate renders to, in its order, as a user without Terraform would."""
    objects = [item for item in render(estate).ordered() if isinstance(item, RenderedObject)]
    image = estate.image.reference()
    documents = [to_yaml(with_this_machine(item.manifest, image, node.driver_folder)) for item in objects]
    kubectl = [str(lab.bin("kubectl")), f"--kubeconfig={lab.kubeconfig}", f"--cache-dir={lab.dir / 'kubectl'}"]
    command = [*kubectl, "apply", "--server-side", "-f", "-"]
    done = subprocess.run(command, input="---\n".join(documents), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def ready(lab: Lab, namespace: str, prefix: str) -> Object | None:
    """The one pod of that workload that is ready and not on its way out."""
    for pod in lab.api().get(f"/api/v1/namespaces/{namespace}/pods")["items"]:
        conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}
        mine = pod["metadata"]["name"].startswith(prefix) and "deletionTimestamp" not in pod["metadata"]
        if mine and conditions.get("Ready") == "True":
            found: Object = pod
            return found
    return None


def agent(lab: Lab) -> Object:
    return started(lab, SYSTEM, DRA_AGENT_COMPONENT)


def started(lab: Lab, namespace: str, prefix: str) -> Object:
    found = wait_for(partial(ready, lab, namespace, prefix))
    assert found is not None
    return found


def container(pod: Object) -> Object:
    status: Object = pod["status"]["containerStatuses"][0]
    return status


def environment(pod: Object) -> dict[str, str]:
    """What the container's first process was started with."""
    lines = Path(f"/proc/{first_process(container(pod)['containerID'])}/environ").read_bytes().split(b"\0")
    return dict(line.decode().split("=", 1) for line in lines if b"=" in line)


def metrics(pod: Object) -> str:
    """What a scrape of the agent's pod finds."""
    with urllib.request.urlopen(f"http://{pod['status']['podIP']}:{DRA_AGENT_METRICS_PORT}/metrics", timeout=10) as got:
        return str(got.read().decode())


def metric(pod: Object, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} (\S+)$", metrics(pod), re.MULTILINE)
    assert found is not None, f"the agent shows no {series}"
    return float(found[1])


def told_files() -> list[Path]:
    """Where the agent told the container runtime about claims."""
    return sorted(Path(CDI_PATH).glob(f"{naming.DRIVER}-claim_*.json"))


def test_the_rendered_agent_gives_each_real_container_its_card_and_budget(lab: Lab) -> None:
    """Two tenants of 16000 MiB are told a card each; then the agent's pod is replaced while they run, and one goes."""
    first = agent(lab)
    assert first["spec"]["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}

    (published,) = lab.api().get(f"{RESOURCES}/resourceslices")["items"]
    assert (published["spec"]["nodeName"], published["metadata"]["ownerReferences"][0]["name"]) == (NODE_NAME,) * 2
    memory = {one["name"]: one["capacity"]["memory"]["value"] for one in published["spec"]["devices"]}
    assert memory == {"gpu-0": f"{CARD_MIB}Mi", "gpu-1": f"{CARD_MIB}Mi"}

    pods = {name: started(lab, NAMESPACE, f"{name}-") for name in TENANTS}
    told = {name: environment(pod) for name, pod in pods.items()}
    assert {one["NVIDIA_VISIBLE_DEVICES"] for one in told.values()} == {"GPU-rtx-0", "GPU-rtx-1"}
    assert {one["GPUMEM_BUDGET_MIB"] for one in told.values()} == {str(BUDGET_MIB)}
    assert told["one"]["GPUMEM_CLAIM"].startswith(f"{NAMESPACE}/{pods['one']['metadata']['name']}-")
    granted = re.findall(r"^gpumem_dra_claim_granted_bytes\{.*\} (\S+)$", metrics(first), re.MULTILINE)
    assert [float(value) for value in granted] == [BUDGET_MIB * BYTES_PER_MIB] * 2
    assert len(told_files()) == 2

    lab.api().delete(f"/api/v1/namespaces/{SYSTEM}/pods/{first['metadata']['name']}")
    wait_for(lambda: (ready(lab, SYSTEM, DRA_AGENT_COMPONENT) or first)["metadata"]["uid"] != first["metadata"]["uid"])
    second = agent(lab)
    assert metric(second, "gpumem_dra_prepared_claims") == 2
    lab.api().delete(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/one")
    wait_for(lambda: len(told_files()) == 1)
    wait_for(lambda: metric(second, "gpumem_dra_prepared_claims") == 1)

    now = ready(lab, NAMESPACE, "two-")
    assert now is not None
    assert container(now)["containerID"] == container(pods["two"])["containerID"]
    for pod in (agent(lab), now):
        assert container(pod)["restartCount"] == 0
    assert "gpumem_dra_errors_total{" not in metrics(second)
