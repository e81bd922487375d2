"""The estate: everything that one `gpumem.yaml` declares, as validated values.

The model checks what one block can tell about itself; `estate_checks` checks what blocks must
agree on (the arithmetic). Both raise nothing on their own when read through
`helpers.rendering.estate_file.load_estate`, which collects all problems of a file with their places.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from helpers.domain import names
from helpers.domain.estate.admission import Admission
from helpers.domain.estate.base import DnsLabel, DnsSubdomain, EstateModel
from helpers.domain.estate.budget_backend import Budgets, counted_by
from helpers.domain.estate.coordinator import Coordinator
from helpers.domain.estate.gitops import GitOps
from helpers.domain.estate.gpu_operator import GpuOperator
from helpers.domain.estate.manager import Manager
from helpers.domain.estate.monitoring import Monitoring
from helpers.domain.estate.nodes import Node
from helpers.domain.estate.review import Review
from helpers.domain.estate.talos import Talos
from helpers.domain.estate.tenants import Tenant
from helpers.domain.estate.texts import (
    CronSchedule,
    ExtendedResource,
    ImageDigest,
    ImageRepository,
    ImageTag,
    KubernetesVersion,
    VersionConstraint,
)
from helpers.domain.estate.watchdog import Exporter, Watchdog
from helpers.domain.memory import PositiveMib


class Kubernetes(EstateModel):
    """The cluster that the estate is rendered for."""

    version: KubernetesVersion = Field(
        description="major.minor of the API server; verify fails where the server is another."
    )


class Image(EstateModel):
    """The one image that all helpers run from."""

    repository: ImageRepository = Field(description="Registry and name, without tag and digest.")
    tag: ImageTag = Field(description="A released version; `latest` is refused.")
    digest: ImageDigest | None = Field(
        default=None, description="sha256:…; pins the very bytes, whatever happens to the tag."
    )

    def reference(self) -> str:
        """`repository:tag`, with `@digest` where one is given."""
        return f"{self.repository}:{self.tag}" + (f"@{self.digest}" if self.digest else "")


class RuntimeClass(EstateModel):
    """The RuntimeClass under which containers see the card."""

    name: DnsLabel = Field(default="nvidia", description="The RuntimeClass object's name.")
    handler: DnsLabel = Field(default="nvidia", description="containerd's or CRI-O's name for the runtime.")


class DevicePlugin(EstateModel):
    """Who runs NVIDIA's device plugin, and where its configuration goes."""

    managed_by: Literal["gpu-operator", "estate"] = Field(
        description="gpu-operator: only the configuration is rendered. estate: the DaemonSet as well."
    )
    config_map: DnsSubdomain = Field(
        default="nvidia-device-plugin-config", description="The ConfigMap with one configuration for each node entry."
    )
    image: str | None = Field(default=None, description="The plugin's image; needed with managed_by: estate.")


class CapacityPolicy(EstateModel):
    """How the node's number is kept."""

    reassert_schedule: CronSchedule = Field(default="17 * * * *", description="The backstop CronJob's schedule.")
    watch: bool = Field(default=True, description="Run the Deployment that re-asserts within a second.")
    drain: bool = Field(
        default=False,
        description="true: the number may go below what runs; those pods fail at the next kubelet restart.",
    )


class Gate(EstateModel):
    """What stands between the two stacks."""

    timeout_seconds: int = Field(default=120, ge=0, le=3600, description="How long the gate waits for the number.")


class PriorityClass(EstateModel):
    """A PriorityClass that the consumers stack makes."""

    name: DnsSubdomain = Field(description="Unique; tenants name it under `priority`.")
    value: int = Field(ge=-2147483648, le=1000000000, description="Higher goes first in the queue of waiting pods.")
    preempt: bool = Field(default=False, description="true: its pods may evict tenants of lower priority.")
    description: str = Field(default="", description="Shown by kubectl.")


class Quota(EstateModel):
    """A namespace's own ceiling on the sum of its budgets."""

    namespace: DnsLabel = Field(description="A namespace in which tenants are declared.")
    budget_mib: PositiveMib = Field(description="MiB that all pods there may declare together, rollouts included.")


class Backend(EstateModel):
    """Where Terraform keeps its state."""

    type: Literal["local", "s3", "gcs", "azurerm", "http", "kubernetes", "consul", "pg"] = Field(
        default="local", description="Terraform's own name of the backend."
    )
    config: dict[str, Any] = Field(
        default_factory=dict, description="The backend's own settings, as Terraform spells them."
    )


class Terraform(EstateModel):
    """Versions, state and lock of the Terraform side."""

    required_version: VersionConstraint = Field(default=">= 1.5", description="Of terraform or tofu.")
    kubectl_provider: VersionConstraint = Field(default=">= 2.1, < 3", description="Of alekc/kubectl.")
    null_provider: VersionConstraint = Field(default=">= 3.2, < 4", description="Of hashicorp/null.")
    backend: Backend = Field(default_factory=Backend, description="Where the state is, and what locks it.")


class Estate(EstateModel):
    """Everything declared in one `gpumem.yaml`."""

    version: Literal[1] = Field(description="The version of this file's form.")
    kubernetes: Kubernetes = Field(description="The cluster that the estate is rendered for.")
    resource: ExtendedResource = Field(description="The extended resource that carries MiB.")
    label_prefix: DnsSubdomain = Field(
        default=names.DEFAULT_LABEL_PREFIX, description="Prefix of the labels and annotations that this project writes."
    )
    namespace: DnsLabel = Field(default="nvidia", description="Where the nvidia stack's objects live.")
    image: Image = Field(description="The one image that all helpers run from.")
    runtime_class: RuntimeClass = Field(
        default_factory=RuntimeClass, description="The RuntimeClass under which containers see the card."
    )
    device_plugin: DevicePlugin = Field(description="Who runs NVIDIA's device plugin, and its configuration.")
    budget: Budgets = Field(default_factory=Budgets, description="What budgets are counted by.")
    nodes: tuple[Node, ...] = Field(min_length=1, strict=False, description="One entry for each kind of GPU node.")
    capacity: CapacityPolicy = Field(default_factory=CapacityPolicy, description="How the node's number is kept.")
    gate: Gate = Field(default_factory=Gate, description="What stands between the two stacks.")
    watchdog: Watchdog = Field(description="When a tenant may be recycled.")
    exporter: Exporter = Field(default_factory=Exporter, description="Where measured use comes from.")
    monitoring: Monitoring = Field(default_factory=Monitoring, description="Alerts, scraping and the dashboard.")
    admission: Admission | None = Field(
        default=None, description="What happens to pods when they are created. Absent: nothing."
    )
    priority_classes: tuple[PriorityClass, ...] = Field(
        default=(), strict=False, description="PriorityClasses that the consumers stack makes."
    )
    quotas: tuple[Quota, ...] = Field(
        default=(), strict=False, description="Ceilings on what a namespace may declare, one a namespace."
    )
    terraform: Terraform = Field(default_factory=Terraform, description="Versions, state and lock.")
    gitops: GitOps | None = Field(
        default=None, description="Delivery by Argo CD or Flux. Absent: by Terraform, or by hand."
    )
    coordinator: Coordinator | None = Field(
        default=None, description="Job queues in front of a card. Absent: there is no coordinator."
    )
    manager: Manager | None = Field(
        default=None, description="GPU jobs: submitted, queued, paid for, stopped. Absent: there is no manager."
    )
    review: Review = Field(default_factory=Review, description="What stops a change of this estate.")
    gpu_operator: GpuOperator | None = Field(
        default=None, description="Values of NVIDIA's GPU Operator's chart. Absent: none are rendered."
    )
    talos: Talos | None = Field(
        default=None, description="Machines that run Talos Linux. Absent: no machine configuration is rendered."
    )
    tenants: tuple[Tenant, ...] = Field(strict=False, description="Every workload that uses a card.")

    def node(self, name: str) -> Node:
        """The node entry called `name`; KeyError where there is none (validate excludes that)."""
        return {node.name: node for node in self.nodes}[name]

    def tenant(self, name: str) -> Tenant | None:
        """The tenant called `name`, or None."""
        return next((tenant for tenant in self.tenants if tenant.name == name), None)

    def field_manager(self) -> str:
        """Who owns the fields of what is rendered: Terraform, or the engine that delivers it."""
        return names.FIELD_MANAGER_TERRAFORM if self.gitops is None else self.gitops.field_manager()

    def priority_value(self, tenant: Tenant) -> int:
        """What the scheduler's queue goes by; 0 where the tenant names no class (a default class is not known here)."""
        return next((item.value for item in self.priority_classes if item.name == tenant.priority), 0)

    @property
    def minor_version(self) -> int:
        """36 for Kubernetes 1.36."""
        return int(self.kubernetes.version.split(".")[1])

    def uses_claims(self, node: Node) -> bool:
        """Whether budgets on `node` are claims on one card, not part of the node's number."""
        backend = node.budget.backend if node.budget else self.budget.backend
        return counted_by(backend, self.minor_version) == "dra"

    def claim_nodes(self) -> tuple[Node, ...]:
        """The kinds of nodes whose budgets are claims."""
        return tuple(node for node in self.nodes if self.uses_claims(node))

    def number_nodes(self) -> tuple[Node, ...]:
        """The kinds of nodes whose budgets are parts of the node's number."""
        return tuple(node for node in self.nodes if not self.uses_claims(node))

    def is_claimed(self, tenant: Tenant) -> bool:
        """Whether the tenant's budget is a claim; False where its node does not exist."""
        return any(node.name == tenant.node for node in self.claim_nodes())

    def shares(self, tenant: Tenant) -> int:
        """Shares that one pod asks for: none with a claim, so that the card is chosen once."""
        return 0 if self.is_claimed(tenant) else tenant.shares

    def pods_count(self, tenant: Tenant) -> int:
        """Pods that `tenant` always runs: its replicas, or one a node for a DaemonSet."""
        if tenant.workload.kind == "DaemonSet":
            return self.node(tenant.node).min_nodes
        return tenant.replicas_count
