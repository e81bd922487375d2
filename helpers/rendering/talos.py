"""Talos: machine-config patches and talhelper's talconfig.yaml. Not Kubernetes objects, so in a folder of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from helpers.domain import names
from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.estate.talos import Talos
from helpers.rendering.manifest_yaml import to_yaml
from helpers.rendering.objects import RenderedFile
from helpers.rendering.templates import render_document

FOLDER = "talos"
SCHEMATIC_FILE = "schematic.yaml"
TALCONFIG_FILE = "talconfig.yaml"
INSTALL_IMAGE_FILE = "patch-install-image.yaml"


def talos_files(estate: Estate) -> Iterator[RenderedFile]:
    """A patch for each node entry with machines, the image, and the whole as talhelper reads it."""
    talos = estate.talos
    if talos is None:
        return
    entries = {machine.node for machine in talos.machines}
    patches = {node.name: f"patch-{node.name}.yaml" for node in estate.nodes if node.name in entries}
    for node in estate.nodes:
        if node.name in patches:
            yield _file(patches[node.name], machine_patch(estate, talos, node))
    schematic = _schematic(talos)
    if patches:
        yield _file(SCHEMATIC_FILE, schematic)
        image = install_image(talos)
        yield _file(INSTALL_IMAGE_FILE, render_document("talos/install-image.yaml.j2", image=image))
    document = render_document("talos/talconfig.yaml.j2", talos=talos, schematic=schematic, patches=patches)
    yield _file(TALCONFIG_FILE, document)


def machine_patch(estate: Estate, talos: Talos, node: Node) -> dict[str, Any]:
    """What is merged into the configuration of every machine of an entry."""
    runtime = render_document("talos/containerd.yaml.j2", handler=estate.runtime_class.handler)["content"]
    return render_document(
        "talos/patch.yaml.j2",
        node_labels=_labels(estate, node),
        default_runtime=runtime if talos.default_runtime else None,
    )


def install_image(talos: Talos) -> str:
    """The installer that the image factory builds from the schematic, once it was sent that."""
    return f"{talos.factory}/metal-installer/{schematic_id(_schematic(talos))}:{talos.version}"


def schematic_id(schematic: Mapping[str, Any]) -> str:
    """The factory's own name for a schematic: the SHA-256 of its canonical text (image-factory, pkg/schematic)."""
    return hashlib.sha256("".join(_canonical(schematic, "")).encode()).hexdigest()


def _canonical(block: Mapping[str, Any], margin: str) -> Iterator[str]:
    """Four spaces a level, lists indented as well; nothing that would need quotes stands in a schematic of ours."""
    for key, value in block.items():
        if not value:
            yield f"{margin}{key}: {{}}\n"
            continue
        yield f"{margin}{key}:\n"
        if isinstance(value, Mapping):
            yield from _canonical(value, f"{margin}    ")
        else:
            yield from (f"{margin}    - {item}\n" for item in value)


def _schematic(talos: Talos) -> dict[str, Any]:
    return render_document("talos/schematic.yaml.j2", extensions=talos.gpu_extensions())


def _labels(estate: Estate, node: Node) -> dict[str, str]:
    """What the entry's machines are found by, and, where the operator runs the plugin, which sharing is theirs."""
    by_operator = estate.device_plugin.managed_by == "gpu-operator"
    own = {names.DEVICE_PLUGIN_CONFIG_LABEL: node.name} if by_operator else {}
    return dict(sorted({**(node.selector or {}), **own}.items()))


def _file(name: str, document: dict[str, Any]) -> RenderedFile:
    return RenderedFile(FOLDER, name, to_yaml(document))
