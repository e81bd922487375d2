"""Runs in Kubeflow's own environment: loads the component, puts it into a pipeline, compiles it.

Prints one JSON document: the compiled pipeline, and what a real task of it looks like. (kfp reads annotations as
they stand, so they are no strings here.)
"""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import yaml
from google.protobuf import json_format
from kfp import compiler, components, dsl
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec


def main(component_text: str) -> None:
    """`component_text`: as the SDK made it."""
    # The published schema itself: unknown or misplaced fields are errors.
    json_format.ParseDict(json.loads(component_text), PipelineSpec())
    gpu_job = components.load_component_from_text(component_text)
    tasks = []

    @dsl.container_component
    def train(epochs: int):  # type: ignore[no-untyped-def]
        return dsl.ContainerSpec(
            image="nvcr.io/nvidia/pytorch:24.01-py3", command=["python", "train.py"], args=["--fast"]
        )

    @dsl.pipeline(name="gpu-training-pipeline")
    def pipeline(job: dict) -> str:  # type: ignore[type-arg] # the type that kfp knows
        first = gpu_job(job=job)
        task = train(epochs=3).set_accelerator_type("NVIDIA_TESLA_A100").set_accelerator_limit(4).set_cpu_limit("16")
        task.set_memory_limit("128G").set_env_variable("MODE", "full")
        tasks.append(task)
        job_id: str = first.outputs["job_id"]
        return job_id

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        compiled = next(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    seen = {"name": tasks[0].name, "container_spec": dataclasses.asdict(tasks[0].container_spec)}
    json.dump({"pipeline": compiled, "task": seen}, sys.stdout)


if __name__ == "__main__":
    main(sys.stdin.read())
