"""One side of the bindings comparison, in a process of its own: `python -m bench.synth_side generic 200 OUT`."""

from __future__ import annotations

import sys
from typing import Any

import stacks  # noqa: F401 - quiets jsii's greeting on both sides alike


def main() -> int:
    """Synthesise the objects through the side that is named."""
    side, count, outdir = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    (_generic if side == "generic" else _typed)(count, outdir)
    return 0


def _generic(count: int, outdir: str) -> None:
    from cdktf import App, TerraformStack  # noqa: PLC0415 - imports are part of what is measured

    from helpers.rendering.objects import RenderedObject  # noqa: PLC0415
    from stacks.constructs.manifest import add_manifest  # noqa: PLC0415

    app = App(outdir=outdir, stack_traces=False)
    stack = TerraformStack(app, "side")
    for index in range(count):
        for manifest in (_config_map(index), _deployment(index)):
            name = f"{str(manifest['kind']).lower()}-{index}"
            add_manifest(stack, RenderedObject(0, "bench", name, manifest), [])
    app.synth()


def _config_map(index: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"settings-{index}", "namespace": "bench"},
        "data": {"settings.json": '{"port":8080}'},
    }


def _deployment(index: int) -> dict[str, Any]:
    labels = {"app": f"model-{index}"}
    container = {
        "name": "main",
        "image": f"registry.example.com/model:1.{index}.0",
        "args": ["--port", "8080"],
        "env": [{"name": "LOG_LEVEL", "value": "info"}],
        "ports": [{"containerPort": 8080}],
        "resources": {"limits": {"example.com/gpumem": "4k", "nvidia.com/gpu": "1"}},
    }
    pod = {"nodeSelector": {"pool": "gpu"}, "priorityClassName": "gpu-batch", "containers": [container]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"model-{index}", "namespace": "bench", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _typed(count: int, outdir: str) -> None:
    from cdktf import App, TerraformStack  # noqa: PLC0415
    from cdktf_cdktf_provider_kubernetes.provider import KubernetesProvider  # noqa: PLC0415

    app = App(outdir=outdir, stack_traces=False)
    stack = TerraformStack(app, "side")
    KubernetesProvider(stack, "kubernetes")
    for index in range(count):
        _typed_objects(stack, index)
    app.synth()


def _typed_objects(stack: Any, index: int) -> None:
    """The typed twins of `_config_map` and `_deployment`: the same names, fields and values."""
    from cdktf_cdktf_provider_kubernetes import config_map_v1 as maps  # noqa: PLC0415
    from cdktf_cdktf_provider_kubernetes import deployment_v1 as deployments  # noqa: PLC0415

    maps.ConfigMapV1(
        stack,
        f"configmap-{index}",
        metadata=maps.ConfigMapV1Metadata(name=f"settings-{index}", namespace="bench"),
        data={"settings.json": '{"port":8080}'},
    )
    labels = {"app": f"model-{index}"}
    container = deployments.DeploymentV1SpecTemplateSpecContainer(
        name="main",
        image=f"registry.example.com/model:1.{index}.0",
        args=["--port", "8080"],
        env=[deployments.DeploymentV1SpecTemplateSpecContainerEnv(name="LOG_LEVEL", value="info")],
        port=[deployments.DeploymentV1SpecTemplateSpecContainerPort(container_port=8080)],
        resources=deployments.DeploymentV1SpecTemplateSpecContainerResources(
            limits={"example.com/gpumem": "4k", "nvidia.com/gpu": "1"}
        ),
    )
    pod = deployments.DeploymentV1SpecTemplateSpec(
        node_selector={"pool": "gpu"}, priority_class_name="gpu-batch", container=[container]
    )
    deployments.DeploymentV1(
        stack,
        f"deployment-{index}",
        metadata=deployments.DeploymentV1Metadata(name=f"model-{index}", namespace="bench", labels=labels),
        spec=deployments.DeploymentV1Spec(
            selector=deployments.DeploymentV1SpecSelector(match_labels=labels),
            strategy=deployments.DeploymentV1SpecStrategy(type="Recreate"),
            template=deployments.DeploymentV1SpecTemplate(
                metadata=deployments.DeploymentV1SpecTemplateMetadata(labels=labels), spec=pod
            ),
        ),
        wait_for_rollout=False,
    )


if __name__ == "__main__":
    sys.exit(main())
