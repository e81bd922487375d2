"""The stand-in for pod life on bare nodes: every promise of `lab.pod_life`."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client

from lab.cluster import Lab
from lab.errors import LabInputError

pytestmark = pytest.mark.lab

NAMESPACE = "pod-life"
PORT = 8080
Eventually = Callable[..., Any]
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def core(kube: client.ApiClient, eventually: Eventually) -> Iterator[client.CoreV1Api]:
    api = client.CoreV1Api(kube)
    api.create_namespace({"metadata": {"name": NAMESPACE}})
    eventually(lambda: api.list_namespaced_service_account(NAMESPACE).items)
    yield api
    api.delete_namespace(NAMESPACE)


def manifest(name: str, *, ports: tuple[int, ...] = (), restart: str = "Always", **behaviour: str) -> dict[str, Any]:
    annotations = {f"lab.gpumem.io/{key.replace('_', '-')}": text for key, text in behaviour.items()}
    container = {"name": "main", "image": "img:1", "ports": [{"containerPort": port} for port in ports]}
    spec = {"nodeSelector": {"pool": "bare"}, "restartPolicy": restart, "containers": [container]}
    return {"metadata": {"name": name, "annotations": annotations}, "spec": spec}


def start(core: client.CoreV1Api, eventually: Eventually, name: str, **options: Any) -> Any:
    core.create_namespaced_pod(NAMESPACE, manifest(name, **options))
    return eventually(lambda: in_phase(core, name, "Running"))


def in_phase(core: client.CoreV1Api, name: str, phase: str) -> Any:
    pod = core.read_namespaced_pod(name, NAMESPACE)
    return pod if pod.status.phase == phase else None


def is_ready(pod: Any) -> bool:
    return any(condition.type == "Ready" and condition.status == "True" for condition in pod.status.conditions)


def ask(pod: Any, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(f"http://{pod.status.pod_ip}:{PORT}{path}", data=body, method=method)
    try:
        with OPENER.open(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def kubectl(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(lab.bin("kubectl")), f"--kubeconfig={lab.kubeconfig}", "-n", NAMESPACE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("code", "phase"), [("0", "Succeeded"), ("3", "Failed")])
def test_a_pod_runs_to_its_end_with_its_exit_code(
    core: client.CoreV1Api, eventually: Eventually, code: str, phase: str
) -> None:
    name = f"ends-{code}"
    core.create_namespaced_pod(NAMESPACE, manifest(name, restart="Never", exit_after_seconds="0.2", exit_code=code))
    pod = eventually(lambda: in_phase(core, name, phase))
    ended = pod.status.container_statuses[0].state.terminated
    assert ended.exit_code == int(code)
    assert not is_ready(pod)


def test_a_container_that_ends_is_started_again_where_its_pod_says_so(
    core: client.CoreV1Api, eventually: Eventually
) -> None:
    core.create_namespaced_pod(NAMESPACE, manifest("again", exit_after_seconds="0.1", exit_code="9"))
    pod = eventually(
        lambda: next(
            (p for p in [in_phase(core, "again", "Running")] if p and p.status.container_statuses[0].restart_count > 1),
            None,
        )
    )
    assert pod.status.container_statuses[0].last_state.terminated.exit_code == 9


@pytest.mark.parametrize(
    ("name", "told"),
    [("job", True), ("a-cron-job-29374577", False)],
    ids=["by its behaviour", "a CronJob's run by itself"],
)
def test_a_job_completes(
    kube: client.ApiClient, core: client.CoreV1Api, eventually: Eventually, name: str, told: bool
) -> None:
    template = manifest("unused", restart="Never", exit_after_seconds="0.1")
    del template["metadata"]["name"]
    if not told:
        del template["metadata"]["annotations"]
    batch = client.BatchV1Api(kube)
    batch.create_namespaced_job(NAMESPACE, {"metadata": {"name": name}, "spec": {"template": template}})
    assert eventually(lambda: batch.read_namespaced_job(name, NAMESPACE).status.succeeded) == 1


def test_logs_come_through_kubectl(lab: Lab, core: client.CoreV1Api, eventually: Eventually) -> None:
    start(core, eventually, "talks", log="first line\nsecond line")
    assert kubectl(lab, "logs", "talks").stdout == "first line\nsecond line\n"
    assert kubectl(lab, "logs", "talks", "--tail=1").stdout == "second line\n"
    assert kubectl(lab, "logs", "talks", "--timestamps").stdout.split()[1:3] == ["first", "line"]


def test_follow_shows_new_lines_and_ends_with_the_pod(lab: Lab, core: client.CoreV1Api, eventually: Eventually) -> None:
    pod = start(core, eventually, "followed", ports=(PORT,), log="start")
    command = [str(lab.bin("kubectl")), f"--kubeconfig={lab.kubeconfig}", "-n", NAMESPACE, "logs", "-f", "followed"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "start\n"
        ask(pod, "/hook", "POST", b"hello")
        assert reader.stdout.readline() == "POST /hook on port 8080: hello\n"
        core.delete_namespaced_pod("followed", NAMESPACE)
        assert reader.stdout.read() == ""
        assert reader.wait(60) == 0


def test_exec_says_that_containers_are_simulated(lab: Lab, core: client.CoreV1Api, eventually: Eventually) -> None:
    start(core, eventually, "no-exec")
    answer = kubectl(lab, "exec", "no-exec", "--", "true")
    assert answer.returncode != 0
    assert "simulated" in answer.stderr


def test_probes_answer_once_the_pod_is_ready(core: client.CoreV1Api, eventually: Eventually) -> None:
    loading = start(core, eventually, "loading", ports=(PORT,), ready_after_seconds="3600")
    assert not is_ready(loading)
    assert ask(loading, "/healthz") == (503, {"pod": f"{NAMESPACE}/loading", "ready": False})
    start(core, eventually, "loaded", ports=(PORT,), ready_after_seconds="0.5")
    loaded = eventually(lambda: next((p for p in [in_phase(core, "loaded", "Running")] if p and is_ready(p)), None))
    assert ask(loaded, "/healthz") == (200, {"pod": f"{NAMESPACE}/loaded", "ready": True})


def test_a_hook_is_recorded_and_answered(lab: Lab, core: client.CoreV1Api, eventually: Eventually) -> None:
    pod = start(core, eventually, "hooked", ports=(PORT,))
    assert ask(pod, "/api/generate?x=1", "POST", b'{"keep_alive": 0}')[0] == 200
    calls = [json.loads(line) for line in (lab.dir / "hooks.jsonl").read_text().splitlines()]
    (call,) = [call for call in calls if call["pod"] == f"{NAMESPACE}/hooked"]
    assert (call["method"], call["path"], call["port"]) == ("POST", "/api/generate?x=1", PORT)
    assert json.loads(call["body"]) == {"keep_alive": 0}


def test_the_release_hook_frees_memory(lab: Lab, core: client.CoreV1Api, eventually: Eventually) -> None:
    pod = start(core, eventually, "releases", ports=(PORT,), used_mib="2000")
    key = f"{NAMESPACE}/releases"
    assert lab.read_usage()[key].used_mib == 2000
    assert lab.read_usage()[key].node == "bare-0"
    assert ask(pod, "/release", "POST", b"")[1]["freed_mib"] == 2000
    assert key not in lab.read_usage()


def test_memory_is_free_before_a_finished_pod_shows_it(
    lab: Lab, core: client.CoreV1Api, eventually: Eventually
) -> None:
    core.create_namespaced_pod(NAMESPACE, manifest("frees", restart="Never", used_mib="700", exit_after_seconds="0.5"))
    eventually(lambda: f"{NAMESPACE}/frees" in lab.read_usage() or in_phase(core, "frees", "Succeeded"))
    eventually(lambda: in_phase(core, "frees", "Succeeded"))
    assert f"{NAMESPACE}/frees" not in lab.read_usage()


def test_a_deleted_pod_is_gone_with_its_memory_and_its_port(
    lab: Lab, core: client.CoreV1Api, eventually: Eventually
) -> None:
    pod = start(core, eventually, "deleted", ports=(PORT,), used_mib="500")
    core.delete_namespaced_pod("deleted", NAMESPACE)
    eventually(lambda: "deleted" not in {item.metadata.name for item in core.list_namespaced_pod(NAMESPACE).items})
    assert f"{NAMESPACE}/deleted" not in lab.read_usage()
    with pytest.raises(urllib.error.URLError):
        ask(pod, "/healthz")


def test_a_pod_that_ends_slowly_keeps_its_memory_until_then(
    lab: Lab, core: client.CoreV1Api, eventually: Eventually
) -> None:
    start(core, eventually, "lingers", used_mib="400", terminate_after_seconds="600")
    core.delete_namespaced_pod("lingers", NAMESPACE, grace_period_seconds=3600)
    assert core.read_namespaced_pod("lingers", NAMESPACE).metadata.deletion_timestamp is not None
    assert lab.read_usage()[f"{NAMESPACE}/lingers"].used_mib == 400
    core.delete_namespaced_pod("lingers", NAMESPACE, grace_period_seconds=0)
    eventually(lambda: f"{NAMESPACE}/lingers" not in lab.read_usage())


def test_pods_have_addresses_of_their_own(core: client.CoreV1Api, eventually: Eventually) -> None:
    pods = [start(core, eventually, f"address-{index}", ports=(PORT,)) for index in range(3)]
    assert len({pod.status.pod_ip for pod in pods}) == 3
    assert all(pod.status.pod_ip.startswith("127.") for pod in pods)
    assert [ask(pod, "/")[1]["pod"] for pod in pods] == [f"{NAMESPACE}/address-{index}" for index in range(3)]


def test_an_annotation_that_cannot_be_read_is_shown_on_the_pod(core: client.CoreV1Api, eventually: Eventually) -> None:
    core.create_namespaced_pod(NAMESPACE, manifest("odd", used_mib="lots"))
    pod = eventually(lambda: next((p for p in [in_phase(core, "odd", "Pending")] if p.status.container_statuses), None))
    waiting = pod.status.container_statuses[0].state.waiting
    assert waiting.reason == "CreateContainerConfigError"
    assert waiting.message == "annotation lab.gpumem.io/used-mib is 'lots', which is no number"


def test_the_usage_of_a_deployment_is_set_on_its_running_pods(
    lab: Lab, kube: client.ApiClient, core: client.CoreV1Api, eventually: Eventually
) -> None:
    template = manifest("unused")
    del template["metadata"]["name"]
    template["metadata"]["labels"] = {"app": "ml"}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "ml"}}, "template": template}
    apps = client.AppsV1Api(kube)
    apps.create_namespaced_deployment(NAMESPACE, {"metadata": {"name": "ml"}, "spec": spec})
    eventually(lambda: apps.read_namespaced_deployment("ml", NAMESPACE).status.ready_replicas == 2)
    pods = lab.set_usage(NAMESPACE, "ml", 1500)
    assert len(pods) == 2
    assert {lab.read_usage()[pod].used_mib for pod in pods} == {1500}
    apps.delete_namespaced_deployment("ml", NAMESPACE)
    eventually(lambda: not set(pods) & lab.read_usage().keys())


def test_usage_of_a_workload_that_does_not_run_is_refused(lab: Lab) -> None:
    with pytest.raises(LabInputError, match="no pod of 'nobody' is running in namespace 'kube-system'; running there"):
        lab.set_usage("kube-system", "nobody", 1)
