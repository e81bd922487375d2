"""What a project's jobs may reach and who may reach them: DNS, their own project, and what the estate names."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from helpers.domain.estate.base import DnsLabel, EstateModel, LabelKey, broken_rule
from helpers.domain.estate.nodes import LabelValue


def _cidr(value: str) -> str:
    try:
        ip_network(value)
    except ValueError as error:
        raise broken_rule("a range of addresses, like 10.0.0.0/16", f"write the network itself: {error}") from error
    return value


Cidr = Annotated[str, AfterValidator(_cidr)]
Port = Annotated[int, Field(ge=1, le=65535)]
KUBE_DNS = {"k8s-app": "kube-dns"}


class NetworkPeer(EstateModel):
    """One place outside the project. A NetworkPolicy knows addresses and pods, never host names."""

    name: DnsLabel = Field(description="What it is, for readers: object-store, model-hub.")
    cidrs: tuple[Cidr, ...] = Field(default=(), strict=False, description="Address ranges, such as a VPC endpoint's.")
    except_cidrs: tuple[Cidr, ...] = Field(default=(), strict=False, description="Parts of cidrs that are left out.")
    namespace: DnsLabel | None = Field(default=None, description="Instead of cidrs: pods of this namespace.")
    pod_labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, description="Only pods with these labels; absent: all of the namespace."
    )
    ports: tuple[Port, ...] = Field(min_length=1, strict=False, description="TCP ports, as the far side listens.")

    @model_validator(mode="after")
    def _one_kind_of_place(self) -> NetworkPeer:
        if bool(self.cidrs) == (self.namespace is not None):
            raise broken_rule(
                "a place is given by exactly one of cidrs and namespace", "keep one of the two", at="name"
            )
        if self.pod_labels and self.namespace is None:
            raise broken_rule("pod_labels choose among a namespace's pods", "add namespace", at="pod_labels")
        outer = [ip_network(cidr) for cidr in self.cidrs]
        for text in self.except_cidrs:
            inner = ip_network(text)
            # The API server wants an exception inside each range that it is written under.
            if not all(one.version == inner.version and inner.subnet_of(one) for one in outer):  # type: ignore[arg-type]
                raise broken_rule(
                    f"except_cidrs lie inside every range of cidrs, and {text} does not",
                    "give that range an entry of its own",
                    at="except_cidrs",
                )
        return self


class Dns(EstateModel):
    """Where names are resolved; without it a job reaches nothing that has a name."""

    namespace: DnsLabel = Field(default="kube-system", description="Where the DNS pods run.")
    pod_labels: dict[LabelKey, LabelValue] = Field(
        default_factory=lambda: dict(KUBE_DNS), description="Labels of the DNS pods."
    )
    cidrs: tuple[Cidr, ...] = Field(
        default=(), strict=False, description="Addresses of a resolver on the node, such as 169.254.20.10/32."
    )
    port: Port = Field(default=53, description="The port on which the pods listen, behind their Service.")


class Network(EstateModel):
    """Isolation of the projects from each other."""

    isolated: bool = Field(default=True, description="false: no NetworkPolicy is rendered.")
    all_pods: bool = Field(
        default=False, description="true: every pod of the namespace, and not jobs' alone, is isolated."
    )
    dns: Dns = Field(default_factory=Dns, description="Where names are resolved.")
    egress: tuple[NetworkPeer, ...] = Field(
        default=(), strict=False, description="What jobs of every project reach: the object store, model hubs, …"
    )
    ingress: tuple[NetworkPeer, ...] = Field(
        default=(), strict=False, description="Who reaches jobs of every project, besides their own and the manager."
    )
