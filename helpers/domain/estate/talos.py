"""The estate's `talos` block: machines that run Talos Linux, and what their GPUs need from its configuration."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from helpers.domain.estate.base import DnsLabel, DnsSubdomain, EstateModel, LabelKey, broken_rule
from helpers.domain.estate.nodes import LabelValue
from helpers.domain.estate.texts import HttpUrl, ImageRepository, version_numbers

# containerd's plugin name that the patch writes (io.containerd.cri.v1.runtime), and metal-installer.
FIRST_TALOS = (1, 10, 0)


def _version(value: str) -> str:
    if re.fullmatch(r"v1\.[0-9]{1,3}\.[0-9]{1,3}", value) is None:
        raise broken_rule("one released version, with its v", "write it like v1.13.0")
    return value


def _talos_version(value: str) -> str:
    if version_numbers(_version(value)) < FIRST_TALOS:
        first = ".".join(str(part) for part in FIRST_TALOS)
        raise broken_rule(f"the patches are for Talos v{first} and later", f"write v{first} or newer")
    return value


def _address(value: str) -> str:
    try:
        ip_address(value)
    except ValueError as error:
        raise broken_rule("an IP address, without a prefix length", "write it like 10.0.0.20") from error
    return value


def _disk(value: str) -> str:
    if re.fullmatch(r"/dev/[A-Za-z0-9/_.:+-]+", value) is None:
        raise broken_rule("the disk's device file", "write it like /dev/nvme0n1, as `talosctl get disks` shows it")
    return value


def _extension(value: str) -> str:
    if re.fullmatch(r"siderolabs/[a-z0-9][a-z0-9-]*", value) is None:
        raise broken_rule("an official extension's name", "write it like siderolabs/gasket-driver, without a version")
    return value


Version = Annotated[str, AfterValidator(_version)]
TalosVersion = Annotated[str, AfterValidator(_talos_version)]
Address = Annotated[str, AfterValidator(_address)]
Disk = Annotated[str, AfterValidator(_disk)]
Extension = Annotated[str, AfterValidator(_extension)]


class TalosMachine(EstateModel):
    """One machine."""

    hostname: DnsSubdomain = Field(description="Unique; the node's name in the cluster.")
    address: Address = Field(description="Unique; where it is reached.")
    install_disk: Disk = Field(description="The disk that Talos is installed on.")
    node: DnsLabel | None = Field(default=None, description="The entry under nodes that it is. Absent: it has no GPU.")
    control_plane: bool = Field(default=False, description="true: a control plane machine. false: a worker.")
    labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="Labels of this machine alone, besides those that its entry is found by."
    )


class Talos(EstateModel):
    """Machine-config patches and talhelper's talconfig.yaml; `gpumem render` writes them into the folder talos."""

    version: TalosVersion = Field(description="The version that is installed.")
    kubernetes_version: Version = Field(description="The whole version; major and minor are kubernetes.version.")
    cluster_name: DnsLabel = Field(description="The cluster's name in talhelper and talosctl.")
    endpoint: HttpUrl = Field(description="The API server's address for every machine.")
    kernel_modules: Literal["open", "nonfree"] = Field(
        default="open", description="NVIDIA's open kernel modules (Turing and later), or the proprietary ones."
    )
    driver_branch: Literal["production", "lts"] = Field(default="production", description="NVIDIA's release branch.")
    default_runtime: bool = Field(
        default=False,
        description="true: containerd's default runtime is NVIDIA's, so a pod sees cards without a RuntimeClass, and "
        "one whose image says NVIDIA_VISIBLE_DEVICES=all sees all of them without asking.",
    )
    extensions: tuple[Extension, ...] = Field(
        default=(), strict=False, description="More system extensions in the image of machines with a GPU."
    )
    factory: ImageRepository = Field(
        default="factory.talos.dev", description="The image factory that builds the installer."
    )
    machines: tuple[TalosMachine, ...] = Field(min_length=1, strict=False, description="Every machine, one entry each.")

    def gpu_extensions(self) -> list[str]:
        """The official extensions of a machine with a GPU, sorted: another order would be another image."""
        modules = "nonfree-kmod-nvidia" if self.kernel_modules == "nonfree" else "nvidia-open-gpu-kernel-modules"
        own = [f"siderolabs/{name}-{self.driver_branch}" for name in (modules, "nvidia-container-toolkit")]
        return sorted([*own, *self.extensions])
