"""The Kubeflow component: against Kubeflow's own schema and compiler, and its container against a manager."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.domain.jobs.observation import Phase
from helpers.domain.jobs.spec import read_spec
from helpers.sdk.gpu import GPUJobClient, JobRefused
from helpers.sdk.kubeflow import component_text, job_of_task
from lab.manager_process import ROOT
from lab.waiting import wait_for
from tests.fakes.jobs import document
from tests.manager.scene import ALICE, Scene

KFP = ROOT / ".venv-kfp" / "bin" / "python"
IMAGE = "registry.example.com/gpumem:1"


@pytest.fixture(scope="session")
def kfp() -> dict[str, Any]:
    """What Kubeflow's own compiler made of the component."""
    if not KFP.exists():
        pytest.skip("Kubeflow's compiler is not installed: run ./lab/setup.sh --with-kfp")
    command = [str(KFP), str(Path(__file__).with_name("kubeflow_compiler.py"))]
    answer = subprocess.run(command, input=component_text(IMAGE), capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


@pytest.fixture
def task(kfp: dict[str, Any]) -> SimpleNamespace:
    """A task with the fields and types of a real one."""
    spec = dict(kfp["task"]["container_spec"])
    spec["resources"] = SimpleNamespace(**spec["resources"])
    return SimpleNamespace(name=kfp["task"]["name"], container_spec=SimpleNamespace(**spec))


def container(found: dict[str, Any]) -> dict[str, Any]:
    executors = found["pipeline"]["deploymentSpec"]["executors"]
    return next(one["container"] for one in executors.values() if one["container"]["image"] == IMAGE)


def test_kubeflows_compiler_takes_the_component_into_a_pipeline(kfp: dict[str, Any]) -> None:
    assert container(kfp)["command"] == ["gpumem", "gpu", "submit"]
    outputs = kfp["pipeline"]["root"]["dag"]["outputs"]["parameters"]
    assert "valueFromParameter" in outputs["Output"]


def test_the_components_container_runs_a_job_to_its_end(kfp: dict[str, Any], scene: Scene, tmp_path: Path) -> None:
    values = {
        "{{$.inputs.parameters['api_url']}}": str(scene.client.base_url),
        "{{$.inputs.parameters['job']}}": json.dumps(document()),
        "{{$.pipeline_task_uuid}}": "task-17",
        "{{$.outputs.parameters['job_id'].output_file}}": str(tmp_path / "outputs" / "job_id"),
    }
    found = container(kfp)
    arguments = [values.get(argument, argument) for argument in (*found["command"], *found["args"])]
    assert not [argument for argument in arguments if "{{" in argument]
    program = [sys.executable, "-m", "helpers.apps.cli", *arguments[1:]]
    environment = {**os.environ, "GPUMEM_MANAGER_TOKEN": ALICE}
    results = []

    def run() -> None:
        results.append(subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60))

    for _ in range(2):  # its pod is lost, and Kubeflow starts another: the same job
        thread = threading.Thread(target=run)
        thread.start()
        wait_for(lambda: scene.bench.store.jobs(["gpu-job-1"]))
        if not results:
            for _ in range(2):
                scene.bench.turn()
            scene.bench.engine.see("gpu-job-1", Phase.SUCCEEDED)
            scene.bench.turn()
        thread.join()
    assert [one.returncode for one in results] == [0, 0], results[0].stderr
    assert (tmp_path / "outputs" / "job_id").read_text() == "gpu-job-1"
    assert "gpu-job-1 is completed" in results[0].stderr


def test_a_pipelines_task_becomes_a_job(task: SimpleNamespace, scene: Scene) -> None:
    spec = read_spec(job_of_task(task, project_id="vision", priority="high"))
    assert spec.container.command == ("python", "train.py", "--fast")
    assert spec.container.env == {"MODE": "full"}
    assert (spec.demand.pool.gpu_type, spec.demand.amount, spec.priority) == ("A100", 4, "high")
    assert (spec.resources.cpu, spec.resources.memory) == ("16", "128G")
    with GPUJobClient(str(scene.client.base_url), token=ALICE) as client:
        job_id = client.submit_kfp_task(task, project_id="vision", priority="high").job_id
    assert scene.bench.job(job_id).spec.priority == "high"


def test_values_of_the_run_are_refused_with_the_way_out(task: SimpleNamespace) -> None:
    task.container_spec.args = ["--epochs", "{{$.inputs.parameters['epochs']}}"]
    with pytest.raises(JobRefused, match=r"task\.command\[3\] = .* known before the pipeline runs; run the component"):
        job_of_task(task, project_id="vision")


def test_a_task_that_names_no_gpu_is_refused(task: SimpleNamespace) -> None:
    task.container_spec.resources.accelerator_type = "nvidia.com/gpu"
    with pytest.raises(JobRefused, match=r"set gpu_type: A100, .*, or another that the estate has a price for"):
        job_of_task(task, project_id="vision")
    task.container_spec.resources.accelerator_type = "nvidia-l4"
    assert job_of_task(task, project_id="vision")["gpu_requirements"]["gpu_type"] == "L4"
    assert job_of_task(task, project_id="vision", gpu_type="T4")["gpu_requirements"]["gpu_type"] == "T4"
    with pytest.raises(JobRefused, match="a task that runs a container"):
        job_of_task(SimpleNamespace(container_spec=None), project_id="vision")
