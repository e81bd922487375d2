"""The synthesised stacks as modules of pytest-terraform: it plans, applies and, at the end, destroys them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_terraform import terraform
from pytest_terraform import tf as plugin

from lab.cluster import Lab
from lab.terraform_run import TerraformRun

pytestmark = [pytest.mark.lab, pytest.mark.terraform]


@pytest.fixture(scope="module", autouse=True)
def synthesised(run: TerraformRun) -> Iterator[None]:
    """Synthesise the example, and let the plugin's own terraform see this lab and these stacks."""
    run.synth()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in run.environment().items():
            patch.setenv(name, value)
        patch.setattr(plugin.LazyModuleDir, "value", str(run.out_dir / "stacks"))
        patch.setattr(plugin.LazyTfBin, "value", run.terraform)
        yield


@terraform("nvidia", scope="module", replay=False)
def test_nvidia_advertises_the_number(nvidia: plugin.TerraformTestApi, example_lab: Lab) -> None:
    assert nvidia.outputs["advertised_mib"]["value"] == {"t4-node": 14000}
    assert "capacity-assert" in nvidia.resources["null_resource"]
    node = example_lab.api().get("/api/v1/nodes/t4-node")
    assert node["status"]["capacity"]["viktorbarzin.me/gpumem"] == "14k"


@terraform("consumers", scope="module", replay=False)
def test_consumers_follow_behind_the_gate(
    nvidia: plugin.TerraformTestApi, consumers: plugin.TerraformTestApi, example_lab: Lab
) -> None:
    assert consumers.outputs["budgets_mib"]["value"]["llama-swap"] == 5000
    assert consumers["gate"]["triggers"]["wait_seconds"] == "120"
    found = example_lab.api().get("/apis/apps/v1/namespaces/llama-cpp/deployments/llama-swap")
    limits = found["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"viktorbarzin.me/gpumem": "5k", "nvidia.com/gpu": "1"}
