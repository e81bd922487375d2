"""Everything the exporter can be told; unknown keys are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from helpers.domain.memory import PositiveMib
from helpers.domain.names import is_dns_label

SERVICE_ACCOUNT_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_PORT = 9836


class ProcessTenantSettings(BaseModel):
    """A tenant outside Kubernetes: its systemd unit (children included) or its process name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    unit: str = ""
    comm: Annotated[str, Field(max_length=15)] = ""  # the kernel keeps 15 characters, a longer name would never match
    budget_mib: PositiveMib | None = None

    @model_validator(mode="after")
    def _one_way_to_find_it(self) -> Self:
        if not is_dns_label(self.name):
            raise ValueError(f"name {self.name!r} becomes a label and must be a DNS label (a-z, 0-9, inner dashes)")
        if bool(self.unit) == bool(self.comm):
            raise ValueError(f"tenant {self.name!r} needs exactly one of unit (NAME.service) and comm (process name)")
        return self


class ExporterSettings(BaseModel):
    """Settings of one exporter process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["nvml", "dcgm"] = "nvml"
    dcgm_url: str = "http://127.0.0.1:9400/metrics"
    """Used with source `dcgm`."""
    dcgm_collection_seconds: Annotated[float, Field(gt=0)] = 30.0
    """dcgm-exporter's `-c`, whose default this is. Figures may be that old and are dated so."""

    listen_address: str = "127.0.0.1"
    """In a pod `0.0.0.0` or `::`; anything wider than loopback is a choice to be made."""
    listen_port: Annotated[int, Field(ge=0, le=65535)] = DEFAULT_PORT
    """0 takes any free port and logs it."""

    interval_seconds: Annotated[float, Field(ge=0.1)] = 1.0
    """Between two rounds. Short, because the watchdog's reaction begins with it: one round of 8 cards
    with 64 processes each takes about 20 ms of one core."""
    stale_after_intervals: Annotated[int, Field(ge=2)] = 5
    """Older snapshots are served as down; the deadline of a hung card must fit in, see below."""
    nvml_deadline_seconds: Annotated[float, Field(gt=0)] = 2.0
    """For all cards together; a healthy answer takes milliseconds, a hung one never comes."""

    host_proc: Path = Path("/proc")
    """`/proc` with hostPID, or where the host's is mounted."""
    cgroup_root: str = "/sys/fs/cgroup"
    """Where the host has its cgroup v2 hierarchy, as the driver sees it (r615 readings)."""
    host_cgroup: Path = Path("/sys/fs/cgroup")
    """Where that hierarchy is mounted here. A pod's own shows itself only: mount the host's, read-only, or
    r615 readings are refused as `cgroup_path_relative`."""
    require_host_pids: bool | None = None
    """None: required in Kubernetes, not outside."""

    kubernetes: bool = True
    pods_source: Literal["api", "kubelet"] = "api"
    pods_url: str = ""
    """Empty: the API server of the environment (by address, so no DNS is needed)."""
    node_name: str = ""
    token_file: Path | None = SERVICE_ACCOUNT_FOLDER / "token"
    ca_file: Path | None = SERVICE_ACCOUNT_FOLDER / "ca.crt"
    insecure_tls: bool = False
    """Kubelets that sign their own certificate; the token is then as safe as the node's network."""
    pods_interval_seconds: Annotated[float, Field(ge=1)] = 30.0
    """Pods of processes not seen before are asked for at once; this is for budgets and for what ended."""
    cdi_dir: Path | None = None
    """Where the node's agent writes what claims hold; None: no budget here is a claim."""
    resource: str = "viktorbarzin.me/gpumem"

    tenants: tuple[ProcessTenantSettings, ...] = ()
    """Outside Kubernetes; processes of nobody listed here are unattributed."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [tenant.name for tenant in self.tenants]
        if len(set(names)) != len(names):
            raise ValueError(f"tenants: each name may stand once, given are {names}")
        if self.kubernetes and self.tenants:
            raise ValueError("tenants are for a machine outside Kubernetes: give no_kubernetes, or no tenants")
        if self.kubernetes and self.pods_source == "api" and not self.node_name:
            raise ValueError("node_name is needed to ask the API server for this node's pods (spec.nodeName)")
        if self.kubernetes and self.pods_source == "kubelet" and not self.pods_url:
            raise ValueError("pods_url is needed with pods_source kubelet, such as https://$(HOST_IP):10250")
        if not self.kubernetes and self.source == "dcgm":
            raise ValueError("source dcgm names pods, which a machine outside Kubernetes does not have: use nvml")
        return self

    @property
    def longest_age_seconds(self) -> float:
        """Age after which a snapshot is served as down: a round may take one deadline besides its interval."""
        return self.stale_after_intervals * self.interval_seconds + self.nvml_deadline_seconds
