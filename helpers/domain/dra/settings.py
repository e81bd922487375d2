"""Everything the node agent can be told; unknown keys are refused."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from helpers.domain.dra import naming
from helpers.domain.dra.rights import DRA_AGENT_METRICS_PORT
from helpers.domain.estate.mig import PROFILE
from helpers.domain.memory import Mib
from helpers.domain.names import is_dns_subdomain

KUBELET_FOLDER = "/var/lib/kubelet"


class DraAgentSettings(BaseModel):
    """Settings of one agent process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    node_name: str
    """The Node's name, which is also its pool's; in a pod from the downward API."""

    reserve_mib: Mib | None = None
    """Kept from every card. None: NVML's own reserved part, which is without contexts and exporters."""
    reserve_by_model_mib: dict[str, Mib] = Field(default_factory=dict)
    """The same for one model, by the name that nvidia-smi prints."""
    mig_reserve_mib: Mib | None = None
    """Kept from every MIG device; a card's reserve says nothing about its parts."""
    mig_profiles: tuple[str, ...] = ()
    """Profiles that the estate counts on; a MIG device of another one is not published. Empty: any."""

    plugin_dir: str = f"{KUBELET_FOLDER}/plugins/{naming.DRIVER}"
    """Checkpoint, lock and the socket that the kubelet calls; on a disk that survives a reboot."""
    registry_dir: str = f"{KUBELET_FOLDER}/plugins_registry"
    """Where the kubelet looks for plugins."""
    cdi_dir: str = "/var/run/cdi"
    """Where the container runtime looks for CDI specifications that come and go."""

    metrics_address: str = f"127.0.0.1:{DRA_AGENT_METRICS_PORT}"
    """HOST:PORT of /metrics, /healthz and /readyz; empty: none."""
    interval_seconds: Annotated[float, Field(ge=0.1)] = 5.0
    """Between two looks at the cards. Memory of a card does not change; this is how soon a lost one is seen."""
    nvml_deadline_seconds: Annotated[float, Field(gt=0)] = 2.0
    """For all cards together; a healthy answer takes milliseconds, a hung one never comes."""
    lock_wait_seconds: Annotated[float, Field(ge=0)] = 5.0
    """How long a new agent waits for the end of the one that it replaces."""
    forget_xids: bool = False
    """Starts without the hardware errors of before: after a card was reset without a reboot."""
    dry_run: bool = False
    """Says what would be published; registers nothing with the kubelet and prepares nothing."""

    @model_validator(mode="after")
    def _consistent(self) -> DraAgentSettings:
        if not is_dns_subdomain(self.node_name):
            raise ValueError(f"node_name {self.node_name!r} is no Node's name; in a pod take it from spec.nodeName")
        for profile in self.mig_profiles:
            if PROFILE.fullmatch(profile) is None:
                raise ValueError(
                    f'mig_profiles: {profile!r} is no MIG profile such as "1g.10gb", as nvidia-smi prints it'
                )
        return self
