"""Asking a pod whether it works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from helpers.domain.estate.health import HttpProbe, TcpProbe


@dataclass(frozen=True, slots=True)
class ProbedPod:
    """The pod that is asked."""

    namespace: str
    name: str
    address: str


class Prober(Protocol):
    """Makes one probe. The answer is what is wrong, empty where nothing is; it never raises."""

    def http(self, probe: HttpProbe, pod: ProbedPod, timeout_seconds: float) -> str:
        """A GET; no redirect is followed."""
        ...

    def tcp(self, probe: TcpProbe, pod: ProbedPod, timeout_seconds: float) -> str:
        """A connection."""
        ...
