"""Talos: what machines with a GPU are told, from the same estate as everything else."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.domain.estate.model import Estate
from helpers.domain.estate.talos import Talos
from helpers.rendering.render import render
from helpers.rendering.talos import install_image, schematic_id, talos_files
from helpers.rendering.write import write_tree
from tests.synth.estates import PROJECT, example, shipped

TALOS = PROJECT / "estates/talos-2x3090.yaml"


def with_talos(**changes: Any) -> Estate:
    estate = shipped(TALOS)
    assert estate.talos is not None
    return estate.model_copy(update={"talos": estate.talos.model_copy(update=changes)})


def files(estate: Estate) -> dict[str, Any]:
    return {item.name: yaml.safe_load(item.text) for item in talos_files(estate)}


def test_the_patch_loads_the_modules_and_relaxes_what_the_toolkit_needs() -> None:
    machine = files(shipped(TALOS))["patch-gpu-worker.yaml"]["machine"]
    modules = [module["name"] for module in machine["kernel"]["modules"]]
    assert modules == ["nvidia", "nvidia_uvm", "nvidia_drm", "nvidia_modeset"]
    assert machine["sysctls"] == {"net.core.bpf_jit_harden": "1"}


def test_a_machine_carries_the_one_selector_and_the_label_of_its_sharing() -> None:
    """The reference's `gpu: "true"` was in no machine's configuration, so pods that chose it waited for ever."""
    estate = shipped(TALOS)
    labels = files(estate)["patch-gpu-worker.yaml"]["machine"]["nodeLabels"]
    assert labels == {"node-type": "gpu-worker", "nvidia.com/device-plugin.config": "gpu-worker"}
    (node,) = estate.nodes
    assert set(node.node_selector().items()) <= set(labels.items())
    for item in render(estate).wave(1).objects:
        if item.kind == "Deployment":
            assert item.manifest["spec"]["template"]["spec"]["nodeSelector"] == node.node_selector()


def test_containerds_default_runtime_is_the_estates_handler_and_only_where_asked_for() -> None:
    (file,) = files(shipped(TALOS))["patch-gpu-worker.yaml"]["machine"]["files"]
    assert (file["op"], file["path"]) == ("create", "/etc/cri/conf.d/20-customization.part")
    plugins = tomllib.loads(file["content"])["plugins"]
    assert plugins["io.containerd.cri.v1.runtime"]["containerd"] == {"default_runtime_name": "nvidia"}
    assert "files" not in files(with_talos(default_runtime=False))["patch-gpu-worker.yaml"]["machine"]


@pytest.mark.parametrize(
    ("modules", "branch", "extensions"),
    [
        ("nonfree", "production", ["nonfree-kmod-nvidia-production", "nvidia-container-toolkit-production"]),
        ("open", "lts", ["nvidia-container-toolkit-lts", "nvidia-open-gpu-kernel-modules-lts"]),
    ],
)
def test_modules_and_toolkit_are_of_one_branch(modules: str, branch: str, extensions: list[str]) -> None:
    found = files(with_talos(kernel_modules=modules, driver_branch=branch))["schematic.yaml"]
    wanted = [f"siderolabs/{name}" for name in extensions]
    assert found == {"customization": {"systemExtensions": {"officialExtensions": wanted}}}


def test_talhelper_gets_every_machine_and_the_gpus_image_only_where_there_is_one() -> None:
    found = files(shipped(TALOS))
    talconfig = found["talconfig.yaml"]
    assert (talconfig["talosVersion"], talconfig["kubernetesVersion"]) == ("v1.13.0", "v1.36.1")
    control, worker = talconfig["nodes"]
    assert control == {
        "hostname": "talos-cluster-control-00",
        "ipAddress": "10.0.0.11",
        "installDisk": "/dev/sda",
        "controlPlane": True,
    }
    assert worker["schematic"] == found["schematic.yaml"]
    assert worker["patches"] == ["@./patch-gpu-worker.yaml"]
    assert all(name.removeprefix("@./") in found for name in worker["patches"])


def test_a_machines_own_labels_are_its_own() -> None:
    estate = shipped(TALOS)
    assert estate.talos is not None
    control, worker = estate.talos.machines
    labelled = worker.model_copy(update={"labels": {"rack": "r1"}})
    found = files(with_talos(machines=(control, labelled)))
    assert found["talconfig.yaml"]["nodes"][1]["nodeLabels"] == {"rack": "r1"}
    assert "rack" not in found["patch-gpu-worker.yaml"]["machine"]["nodeLabels"]


@pytest.mark.parametrize(
    ("customization", "published"),
    [
        ({}, "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"),
        (
            {"extraKernelArgs": ["noapic", "nolapic"]},
            "9cba8e32753f91a16c1837ab8abf356af021706ef284aef07380780177d9a06c",
        ),
    ],
)
def test_a_schematics_name_is_the_factorys(customization: dict[str, Any], published: str) -> None:
    """The ids are those of image-factory's own tests."""
    assert schematic_id({"customization": customization}) == published


def test_another_extension_is_another_image_and_its_order_is_not() -> None:
    images = [
        install_image(talos)
        for talos in (
            talos_of(),
            talos_of(extensions=("siderolabs/gasket-driver", "siderolabs/i915")),
            talos_of(extensions=("siderolabs/i915", "siderolabs/gasket-driver")),
        )
    ]
    assert images[1] == images[2] != images[0]
    assert images[0].startswith("factory.talos.dev/metal-installer/26124abcbd408be6")
    assert images[0].endswith(":v1.13.0")


def talos_of(**changes: Any) -> Talos:
    talos = with_talos(**changes).talos
    assert talos is not None
    return talos


def test_talosctl_gets_the_image_as_a_patch() -> None:
    assert files(shipped(TALOS))["patch-install-image.yaml"] == {
        "machine": {"install": {"image": install_image(talos_of())}}
    }


def test_where_no_machine_has_a_gpu_there_is_only_talhelpers_file() -> None:
    control = talos_of().machines[0]
    assert set(files(with_talos(machines=(control,)))) == {"talconfig.yaml"}


def test_without_the_plugin_of_the_operator_no_label_speaks_of_it() -> None:
    estate = shipped(TALOS)
    plugin = estate.device_plugin.model_copy(update={"managed_by": "estate", "image": "nvcr.io/nvidia/p:v1"})
    ours = estate.model_copy(update={"device_plugin": plugin, "gpu_operator": None})
    assert files(ours)["patch-gpu-worker.yaml"]["machine"]["nodeLabels"] == {"node-type": "gpu-worker"}


def test_the_folder_holds_no_kubernetes_object_and_goes_with_the_block(tmp_path: Path) -> None:
    write_tree(render(shipped(TALOS)), tmp_path)
    written = sorted(path.name for path in (tmp_path / "talos").iterdir())
    assert written == ["patch-gpu-worker.yaml", "patch-install-image.yaml", "schematic.yaml", "talconfig.yaml"]
    assert all("kind" not in yaml.safe_load(path.read_text()) for path in (tmp_path / "talos").iterdir())
    write_tree(render(example()), tmp_path)
    assert list((tmp_path / "talos").iterdir()) == []
