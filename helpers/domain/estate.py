"""The estate: everything that one `gpumem.yaml` declares, as validated values.

The model checks what one block can tell about itself; `estate_checks` checks what blocks must
agree on (the arithmetic). Both raise nothing on their own when read through
`helpers.rendering.estate_file.load_estate`, which collects all problems of a file with their places.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from helpers.domain import names
from helpers.domain.estate_base import DnsLabel, DnsSubdomain, EstateModel, broken_rule
from helpers.domain.estate_nodes import Node
from helpers.domain.estate_tenants import Tenant
from helpers.domain.memory import PositiveMib


def _extended_resource(value: str) -> str:
    prefix, _, name = value.partition("/")
    if not name or not names.is_qualified_name(value) or "kubernetes.io" in prefix:
        raise broken_rule(
            "an extended resource is `domain/name`, and the domain is not kubernetes.io",
            "use a domain of your own, such as example.com/gpumem",
        )
    if prefix == "nvidia.com":
        raise broken_rule(
            "nvidia.com/… belongs to the device plugin, which would overwrite the number",
            "use a domain of your own, such as example.com/gpumem",
        )
    return value


def _kubernetes_version(value: str) -> str:
    if re.fullmatch(r"1\.[0-9]{1,3}", value) is None:
        raise broken_rule("the cluster's version as major.minor, quoted", 'write it as "1.36"')
    return value


def _cron(value: str) -> str:
    if len(value.split()) != 5 or re.fullmatch(r"[0-9A-Za-z*/, -]+", value) is None:
        raise broken_rule("a cron schedule of five fields", 'once an hour is "17 * * * *"')
    return value


class Kubernetes(EstateModel):
    """The cluster that the estate is rendered for."""

    version: Annotated[str, AfterValidator(_kubernetes_version)] = Field(
        description="major.minor of the API server; verify fails where the server is another."
    )


class Image(EstateModel):
    """The one image that all helpers run from."""

    repository: str = Field(min_length=1)
    tag: str = Field(min_length=1, description="A released version; `latest` is refused.")
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None

    def reference(self) -> str:
        """`repository:tag`, with `@digest` where one is given."""
        return f"{self.repository}:{self.tag}" + (f"@{self.digest}" if self.digest else "")


class RuntimeClass(EstateModel):
    """The RuntimeClass under which containers see the card."""

    name: DnsLabel = "nvidia"
    handler: DnsLabel = Field(default="nvidia", description="containerd's or CRI-O's name for the runtime.")


class DevicePlugin(EstateModel):
    """Who runs NVIDIA's device plugin, and where its configuration goes."""

    managed_by: Literal["gpu-operator", "estate"] = Field(
        description="gpu-operator: only the configuration is rendered. estate: the DaemonSet as well."
    )
    config_map: DnsSubdomain = "nvidia-device-plugin-config"
    image: str | None = Field(default=None, description="The plugin's image; needed with managed_by: estate.")


class CapacityPolicy(EstateModel):
    """How the node's number is kept."""

    reassert_schedule: Annotated[str, AfterValidator(_cron)] = Field(
        default="17 * * * *", description="The backstop CronJob's schedule."
    )
    watch: bool = Field(default=True, description="Run the Deployment that re-asserts within a second.")
    drain: bool = Field(
        default=False,
        description="true: the number may go below what runs; those pods fail at the next kubelet restart.",
    )


class Gate(EstateModel):
    """What stands between the two stacks."""

    timeout_seconds: int = Field(default=120, ge=0, le=3600, description="How long the gate waits for the number.")


class Watchdog(EstateModel):
    """When a tenant may be recycled; read by the watchdog."""

    floor_mib: PositiveMib = Field(description="Free MiB on a card under which there is pressure.")
    dry_run: bool = Field(default=True, description="true: only say what would be done.")
    interval_seconds: int = Field(default=5, ge=1, le=300)


class PriorityClass(EstateModel):
    """A PriorityClass that the consumers stack makes."""

    name: DnsSubdomain
    value: int = Field(ge=-2147483648, le=1000000000)
    preempt: bool = Field(default=False, description="true: its pods may evict tenants of lower priority.")
    description: str = ""


class Quota(EstateModel):
    """A namespace's own ceiling on the sum of its budgets."""

    namespace: DnsLabel
    budget_mib: PositiveMib


class Backend(EstateModel):
    """Where Terraform keeps its state."""

    type: Literal["local", "s3", "gcs", "azurerm", "http", "kubernetes", "consul", "pg"] = "local"
    config: dict[str, Any] = Field(
        default_factory=dict, description="The backend's own settings, as Terraform spells them."
    )


class Terraform(EstateModel):
    """Versions, state and lock of the Terraform side."""

    required_version: str = ">= 1.5"
    kubectl_provider: str = ">= 2.1, < 3"
    null_provider: str = ">= 3.2, < 4"
    backend: Backend = Field(default_factory=Backend)


class Estate(EstateModel):
    """Everything declared in one `gpumem.yaml`."""

    version: Literal[1]
    kubernetes: Kubernetes
    resource: Annotated[str, AfterValidator(_extended_resource)] = Field(
        description="The extended resource that carries MiB."
    )
    label_prefix: DnsSubdomain = names.DEFAULT_LABEL_PREFIX
    namespace: DnsLabel = Field(default="nvidia", description="Where the nvidia stack's objects live.")
    image: Image
    runtime_class: RuntimeClass = Field(default_factory=RuntimeClass)
    device_plugin: DevicePlugin
    nodes: tuple[Node, ...] = Field(min_length=1, strict=False)
    capacity: CapacityPolicy = Field(default_factory=CapacityPolicy)
    gate: Gate = Field(default_factory=Gate)
    watchdog: Watchdog
    priority_classes: tuple[PriorityClass, ...] = Field(default=(), strict=False)
    quotas: tuple[Quota, ...] = Field(default=(), strict=False)
    terraform: Terraform = Field(default_factory=Terraform)
    tenants: tuple[Tenant, ...] = Field(strict=False)

    def node(self, name: str) -> Node:
        """The node entry called `name`; KeyError where there is none (validate excludes that)."""
        return {node.name: node for node in self.nodes}[name]

    def tenant(self, name: str) -> Tenant | None:
        """The tenant called `name`, or None."""
        return next((tenant for tenant in self.tenants if tenant.name == name), None)

    def pods_count(self, tenant: Tenant) -> int:
        """Pods that `tenant` always runs: its replicas, or one a node for a DaemonSet."""
        if tenant.workload.kind == "DaemonSet":
            return self.node(tenant.node).min_nodes
        return tenant.replicas_count
