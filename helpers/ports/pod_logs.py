"""What a container has written."""

from __future__ import annotations

from typing import Protocol

from helpers.ports.cluster import ObjectRef


class PodLogs(Protocol):
    """Reads logs; `helpers.domain.errors.ClusterError` and its kinds where the API or the node refuses."""

    def pod_log(self, pod: ObjectRef, *, container: str, tail_lines: int) -> str:
        """The end of the container's output."""
        ...
