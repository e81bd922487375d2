"""Everything the node agent can be told; unknown keys are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from helpers.domain.dra import naming
from helpers.domain.dra.devices import ReserveRule
from helpers.domain.dra.rights import DRA_AGENT_METRICS_PORT
from helpers.domain.memory import Mib
from helpers.domain.names import is_dns_subdomain
from helpers.services.dra_publish import PublishRules

KUBELET_FOLDER = Path("/var/lib/kubelet")


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

    plugin_dir: Path = KUBELET_FOLDER / "plugins" / naming.DRIVER
    """Checkpoint, lock and the socket that the kubelet calls; on a disk that survives a reboot."""
    registry_dir: Path = KUBELET_FOLDER / "plugins_registry"
    """Where the kubelet looks for plugins."""
    cdi_dir: Path = Path("/var/run/cdi")
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
        return self

    def rules(self) -> PublishRules:
        """What is published of this node's cards."""
        return PublishRules(
            self.node_name,
            ReserveRule(self.reserve_mib, self.reserve_by_model_mib, self.mig_reserve_mib),
            frozenset(self.mig_profiles),
            forget_xids=self.forget_xids,
            dry_run=self.dry_run,
        )
