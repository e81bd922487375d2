"""Consumers before the capacity stop at the gate (in the field, pods were once admitted against zero)."""

from __future__ import annotations

import pytest

from lab.cluster import Lab
from lab.terraform_run import TerraformFailed, TerraformRun
from tests.terraform.conftest import estate_text

pytestmark = [pytest.mark.lab, pytest.mark.terraform]


def test_consumers_before_the_capacity_stop_at_the_gate_with_node_and_number(
    run: TerraformRun, example_lab: Lab
) -> None:
    run.estate_file.write_text(estate_text(**{"timeout_seconds: 120": "timeout_seconds: 2"}))
    run.synth()
    run.init("consumers")

    with pytest.raises(TerraformFailed) as stopped:
        run.apply("consumers")

    node = example_lab.api().get("/api/v1/nodes")["items"][0]["metadata"]["name"]
    assert f"node {node}: allocatable viktorbarzin.me/gpumem is absent, wanted 14000 MiB" in str(stopped.value)
    assert not example_lab.api().exists("/api/v1/namespaces/llama-cpp"), "nothing of a tenant may exist yet"
    assert not example_lab.api().exists("/apis/scheduling.k8s.io/v1/priorityclasses/gpu-realtime")
