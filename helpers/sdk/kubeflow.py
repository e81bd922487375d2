"""Kubeflow Pipelines: a component that runs a job of the manager, and jobs made from pipeline tasks.

The component is Kubeflow's own pipeline spec (schema 2.1.0), so kfp need not be installed here:

    from kfp import components, dsl
    from helpers.sdk.kubeflow import component_text

    gpu_job = components.load_component_from_text(component_text(image="registry.example.com/gpumem:1"))

    @dsl.pipeline(name="gpu-training-pipeline")
    def train_pipeline(job: dict):
        gpu_job(job=job)

Its container submits the job, waits, and cancels it when the run is stopped. The key is the task's own id,
so a container that is started again waits for the same job.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from helpers.domain import names
from helpers.domain.errors import Problem
from helpers.domain.jobs.gpus import SOLD_SIZES_GB
from helpers.sdk.gpu_wire import JobRefused

SCHEMA_VERSION = "2.1.0"
COMPONENT_NAME = "gpu-job"
_DEFINITION, _EXECUTOR = f"comp-{COMPONENT_NAME}", f"exec-{COMPONENT_NAME}"
_INPUTS: dict[str, dict[str, Any]] = {
    "job": {"parameterType": "STRUCT", "description": "The job, as the manager's API has it."},
    "api_url": {
        "parameterType": "STRING",
        "description": "The manager; absent: its Service in the cluster.",
        "defaultValue": f"http://{names.MANAGER_COMPONENT}.gpu-system.svc:{names.MANAGER_PORT}",
        "isOptional": True,
    },
}
_OUTPUTS = {"job_id": {"parameterType": "STRING", "description": "The job's id."}}
# What is known only while a pipeline runs: a placeholder of the spec, or a channel of the compiler.
_UNKNOWN_YET = re.compile(r"\{\{(\$|channel:)")


class KfpTask(Protocol):
    """As much of a pipeline's task as is read here (`kfp.dsl.PipelineTask` has it)."""

    @property
    def container_spec(self) -> Any:
        """Image, command, args, env and resources; None: the task has no container."""
        ...


def component(image: str) -> dict[str, Any]:
    """The component as a document.

    Args:
        image: Of this project's helpers; it has the program `gpumem`.
    """
    passed = {name: {"componentInputParameter": name} for name in _INPUTS}
    task = {
        "componentRef": {"name": _DEFINITION},
        "inputs": {"parameters": passed},
        # A job is run for what it does, so an earlier run of the same one is no substitute.
        "cachingOptions": {},
        "taskInfo": {"name": COMPONENT_NAME},
    }
    outputs = {
        name: {"valueFromParameter": {"producerSubtask": COMPONENT_NAME, "outputParameterKey": name}}
        for name in _OUTPUTS
    }
    definitions = {"inputDefinitions": {"parameters": _INPUTS}, "outputDefinitions": {"parameters": _OUTPUTS}}
    return {
        "pipelineInfo": {"name": COMPONENT_NAME, "description": "Runs a GPU job and waits for its end."},
        "schemaVersion": SCHEMA_VERSION,
        "sdkVersion": "gpumem",
        "components": {_DEFINITION: {"executorLabel": _EXECUTOR, **definitions}},
        "deploymentSpec": {"executors": {_EXECUTOR: {"container": {"image": image, **_command()}}}},
        "root": {
            "dag": {
                "tasks": {COMPONENT_NAME: task},
                "outputs": {"parameters": outputs},
            },
            **definitions,
        },
    }


def component_text(image: str) -> str:
    """The component as text (JSON, which is YAML), for `kfp.components.load_component_from_text`."""
    return json.dumps(component(image), indent=2) + "\n"


def job_of_task(task: KfpTask, *, project_id: str, gpu_type: str | None = None, **fields: Any) -> dict[str, Any]:
    """The job that does what a pipeline's task would do.

    Args:
        task: Its image, command and limits are read.
        project_id: Whose job it is.
        gpu_type: Which GPU; absent: the task's accelerator type says it.
        fields: Further fields of the job.

    Raises:
        JobRefused: the task has no container, asks for no GPU, or depends on values of the run.
    """
    found = task.container_spec
    if found is None:
        raise _refused("task", type(task).__name__, "a task that runs a container", "give a container component's task")
    limits = found.resources
    command = [*(found.command or ()), *(found.args or ())]
    environment = dict(found.env or {})
    for place, text in [*_placed("command", command), *((f"env.{key}", value) for key, value in environment.items())]:
        if not isinstance(text, str) or _UNKNOWN_YET.search(text):
            rule = "a value that is known before the pipeline runs"
            raise _refused(f"task.{place}", str(text), rule, "run the component gpu-job in the pipeline instead")
    requirements = {
        "gpu_type": gpu_type or _gpu_type(getattr(limits, "accelerator_type", None)),
        "gpu_count": int(getattr(limits, "accelerator_count", None) or 1),
    }
    resources = {"cpu": getattr(limits, "cpu_limit", None), "memory": getattr(limits, "memory_limit", None)}
    return {
        "job_name": str(getattr(task, "name", None) or COMPONENT_NAME),
        "project_id": project_id,
        "gpu_requirements": requirements,
        "container": {"image": found.image, "command": command, "env": environment},
        "resources": {name: str(amount) for name, amount in resources.items() if amount is not None},
        **fields,
    }


def _command() -> dict[str, list[str]]:
    return {
        "command": ["gpumem", "gpu", "submit"],
        "args": [
            "--server", "{{$.inputs.parameters['api_url']}}",
            "--job", "{{$.inputs.parameters['job']}}",
            "--idempotency-key", "{{$.pipeline_task_uuid}}",
            "--job-id-file", "{{$.outputs.parameters['job_id'].output_file}}",
            "--wait",
            "--cancel-when-stopped",
        ],
    }  # fmt: skip


def _gpu_type(accelerator: str | None) -> str:
    words: Mapping[str, str] = {name.upper(): name for name in SOLD_SIZES_GB}
    for word in re.split(r"[^A-Z0-9]+", (accelerator or "").upper()):
        if word in words:
            return words[word]
    rule = "an accelerator type that names a GPU, such as A100 or NVIDIA_TESLA_T4"
    repair = f"set gpu_type: {', '.join(sorted(SOLD_SIZES_GB))}, or another that the estate has a price for"
    raise _refused("task.accelerator_type", accelerator or "", rule, repair)


def _placed(place: str, values: Sequence[Any]) -> list[tuple[str, Any]]:
    return [(f"{place}[{index}]", value) for index, value in enumerate(values)]


def _refused(place: str, value: str, rule: str, repair: str) -> JobRefused:
    return JobRefused(None, [Problem(place, value[:100], rule, repair)])
