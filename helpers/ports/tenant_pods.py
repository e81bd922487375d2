"""Where a tenant's release hook is called: its running pods, or outside Kubernetes its machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from helpers.domain.lanes.settings import HookRule
from helpers.ports.cluster import Manifest
from helpers.ports.release_hook import HookTarget


@dataclass(frozen=True)
class AskedPod:
    """One that is asked. `pod`: what an Event is about; None: it is no pod."""

    target: HookTarget
    pod: Manifest | None = None


class TenantPods(Protocol):
    """Looks them up when they are needed: pods come and go."""

    def of(self, rule: HookRule) -> tuple[AskedPod, ...]:
        """All that run now.

        Raises:
            DependencyError: they cannot be found.
        """
        ...
