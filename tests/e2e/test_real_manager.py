"""The rendered manager as a pod of a real kubelet: a job over HTTP runs to its end, and one that is evicted goes on.

Arguments, variables, Secret, ConfigMap, probes, rights, user and read-only root are the rendered ones; added
are only mounts that show the pod this machine's Python. Its database is a SQLite file in its own /tmp, for one
replica. The job's container is real; its card is a number on the node.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from helpers.adapters.job_engines.checkpoints import CheckpointHooks
from helpers.adapters.kubernetes_.commands import connect_commands
from helpers.domain import names
from helpers.domain.estate.model import Estate
from helpers.domain.jobs.spec import Checkpoint
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.manifest_yaml import to_yaml
from helpers.rendering.objects import RenderedObject
from helpers.rendering.render import render
from lab import cluster, real_kubelet
from lab.api import Object
from lab.cluster import Lab
from lab.real_kubelet import RealNode
from lab.real_kubelet.images import TENANT_IMAGE, with_this_machine
from lab.waiting import wait_for
from tests.fakes.outside import FakeLog

pytestmark = [pytest.mark.lab, pytest.mark.timeout(170, func_only=True)]  # what starts and builds has its own bounds

HOME, PROJECT, JOBS = "gpu-system", "research", "/api/v1/gpu/jobs"
ESTATE = f"""
version: 1
kubernetes: {{version: "1.36"}}
resource: viktorbarzin.me/gpumem
image: {{repository: registry.example.com/gpumem, tag: "0.1.0"}}
device_plugin: {{managed_by: gpu-operator}}
nodes:
  - name: t4-node
    selector: {{nvidia.com/gpu.present: "true"}}
    gpus: [{{model: Tesla T4, count: 1, physical_mib: 15360, reserve_mib: 1360}}]
watchdog: {{floor_mib: 1536}}
tenants: []
manager:
  replicas: 1
  database_secret: {{name: manager-database, key: url}}
  checkpoints: {{claim: saved}}
  projects:
    - name: {PROJECT}
      budget_usd_per_month: 100
      submitters: [{{kind: ServiceAccount, name: alice, namespace: {PROJECT}}}]
"""
# Besides the platform itself: what it stands on.
GROUND = ("Namespace", "RuntimeClass", "PriorityClass")


@pytest.fixture(scope="module")
def lab(real_node_turn: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("real-manager")
    estate = parse_estate(ESTATE, "the test's estate")[0]
    try:
        lab = cluster.up("real-manager", [], root, print)
        labels = {"nvidia.com/gpu.present": "true"}
        with real_kubelet.joined(lab, labels, estate.image.reference(), print) as node:
            node.advertise({"nvidia.com/gpu": 1})
            apply(lab, node, estate, root)
            yield lab
    finally:
        cluster.down("real-manager", root)


def apply(lab: Lab, node: RealNode, estate: Estate, root: Path) -> None:
    """The ground and the platform in their order, and what the estate's owner makes: a Secret, an account, a claim."""
    objects = [item for item in render(estate).ordered() if isinstance(item, RenderedObject)]
    ground = [item.manifest for item in objects if item.kind in GROUND]
    url = base64.b64encode(b"sqlite:////tmp/jobs.db").decode()
    own: list[Object] = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "manager-database", "namespace": HOME}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "alice", "namespace": PROJECT}},
    ]
    own[0]["data"] = {"url": url}
    own += claim(root)
    platform = [item.manifest for item in objects if item.wave == 2 and item.kind not in GROUND]
    image = estate.image.reference()
    for documents in (ground, own, platform):
        texts = [to_yaml(with_this_machine(one, image, node.driver_folder)) for one in documents]
        kubectl = [str(lab.bin("kubectl")), f"--kubeconfig={lab.kubeconfig}", f"--cache-dir={lab.dir / 'kubectl'}"]
        command = [*kubectl, "apply", "--server-side", "-f", "-"]
        done = subprocess.run(command, input="---\n".join(texts), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


def claim(root: Path) -> list[Object]:
    """The claim for checkpoints, on a folder of this machine."""
    folder = root / "saved"
    folder.mkdir()
    size = {"storage": "1Gi"}
    modes, binding = {"accessModes": ["ReadWriteMany"]}, {"storageClassName": "", "volumeName": "saved"}
    volume = {"capacity": size, **modes, "hostPath": {"path": str(folder)}, "storageClassName": ""}
    wanted = {"resources": {"requests": size}, **modes, **binding}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "saved"}, "spec": volume},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "saved", "namespace": PROJECT},
            "spec": wanted,
        },
    ]


def manager_pod(lab: Lab) -> Object | None:
    """The manager's pod once its own readiness probe says so."""
    for pod in lab.api().get(f"/api/v1/namespaces/{HOME}/pods")["items"]:
        conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}
        if pod["metadata"]["name"].startswith(names.MANAGER_COMPONENT) and conditions.get("Ready") == "True":
            found: Object = pod
            return found
    return None


def started(lab: Lab) -> Object:
    found = wait_for(partial(manager_pod, lab))
    assert found is not None
    return found


def token_of(lab: Lab, account: str) -> str:
    path = f"/api/v1/namespaces/{PROJECT}/serviceaccounts/{account}/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    return str(lab.api().post(path, body)["status"]["token"])


def job_body(script: str = "echo trained; sleep 1", **changes: Any) -> dict[str, Any]:
    return {
        "job_name": "train",
        "project_id": PROJECT,
        "gpu_requirements": {"gpu_type": "T4"},
        "container": {"image": TENANT_IMAGE, "command": ["sh", "-c", script]},
        **changes,
    }


def client_of(lab: Lab, pod: Object, account: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token_of(lab, account)}"}
    address = f"http://{pod['status']['podIP']}:{names.MANAGER_PORT}"
    return httpx.Client(base_url=address, headers=headers, timeout=30)


def submitted(client: httpx.Client, body: dict[str, Any]) -> str:
    answer = client.post(JOBS, json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job_id"])


def over(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """The job at its end."""

    def look() -> dict[str, Any] | None:
        job: dict[str, Any] = client.get(f"{JOBS}/{job_id}").json()
        return job if job["status"] in ("completed", "failed") else None

    found = wait_for(look)
    assert found is not None
    return found


def test_a_job_over_http_runs_to_its_end_by_the_rendered_pod(lab: Lab) -> None:
    pod = started(lab)
    spec = pod["spec"]
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True

    with client_of(lab, pod, "alice") as client:
        job_id = submitted(client, job_body())
        job = over(client, job_id)
        assert (job["status"], job["gpu_requirements"]["gpu_memory_gb"]) == ("completed", 16)
        assert client.get(f"{JOBS}/{job_id}/logs").text == "trained\n"
        (entry,) = client.get("/api/v1/gpu/audit").json()["entries"]
        assert entry["actor"] == f"system:serviceaccount:{PROJECT}:alice"
        elsewhere = client.post(JOBS, json=job_body(project_id="default"))
        assert elsewhere.status_code == 403
    with client_of(lab, pod, "default") as client:
        assert client.get(f"{JOBS}/{job_id}").status_code == 404

    lease = lab.api().get(f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/{names.MANAGER_COMPONENT}")
    assert lease["spec"]["holderIdentity"].startswith(pod["metadata"]["name"])
    now = started(lab)
    assert now["status"]["containerStatuses"][0]["restartCount"] == 0


SAVE_WHEN_TOLD = """
if [ -e "$GPUMEM_JOB_CHECKPOINT_PATH/step" ]; then
    echo "attempt $GPUMEM_JOB_ATTEMPT goes on from $(cat "$GPUMEM_JOB_CHECKPOINT_PATH/step")"
    exit 0
fi
trap 'echo "step 41" > "$GPUMEM_JOB_CHECKPOINT_PATH/step"; echo saved' USR1
echo trains
while true; do sleep 600 & wait; done
"""


def test_an_evicted_job_goes_on_from_what_it_saved_on_its_claim_when_a_signal_told_it_to(lab: Lab) -> None:
    with client_of(lab, started(lab), "alice") as client:
        job_id = submitted(client, job_body(SAVE_WHEN_TOLD))
        wait_for(lambda: client.get(f"{JOBS}/{job_id}/logs").text == "trains\n")
        pods = f"/api/v1/namespaces/{PROJECT}/pods"
        (pod,) = lab.api().get(f"{pods}?labelSelector=gpumem.io/job={job_id}")["items"]
        # As the manager asks, whose shortest interval is a minute.
        log = FakeLog()
        assert CheckpointHooks(connect_commands(lab.kubeconfig), log).ask(Checkpoint(signal="SIGUSR1"), [pod]), log
        wait_for(lambda: client.get(f"{JOBS}/{job_id}/logs").text == "trains\nsaved\n")
        name = pod["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": PROJECT}}
        lab.api().post(f"{pods}/{name}/eviction", eviction)
        job = over(client, job_id)
        assert job["status"] == "completed", job
        assert client.get(f"{JOBS}/{job_id}/logs").text == "attempt 2 goes on from step 41\n"
        kinds = [one["kind"] for one in client.get(f"{JOBS}/{job_id}/events").json()["events"]]
        assert "preempted" in kinds
