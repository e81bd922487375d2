"""Where samples come from, as the exporter's service sees it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from helpers.domain.telemetry.attribution import CgroupReadings, ProcessIdentity
from helpers.domain.telemetry.reading import Gpu, GpuReading


class Devices(Protocol):
    """The node's GPUs through the driver. No call takes longer than the adapter's own deadline."""

    def read(self) -> tuple[GpuReading, ...]:
        """Every card; one that fails is among them with its fault, the others are unharmed.

        Raises:
            TelemetryError: The driver cannot be asked at all.
            RestartNeeded: Only a new process can ask it again.
        """
        ...

    def read_again(self, index: int) -> GpuReading:
        """One card once more, after something changed between two calls."""
        ...

    def cgroup_readings(self, gpu: Gpu, paths: Sequence[str]) -> CgroupReadings:
        """The driver's account of container cgroups on one device (r615); `paths` as the cgroup files show them."""
        ...

    def xid_counts(self) -> Mapping[tuple[Gpu, int], int]:
        """`{(gpu, xid code): events since start}`; empty where the driver reports no events."""
        ...

    def driver_version(self) -> str:
        """The driver's version, empty where unknown."""
        ...

    def close(self) -> None:
        """Gives the driver back."""
        ...


class Processes(Protocol):
    """The host's processes."""

    def shows_host_pids(self) -> bool:
        """Whether pids here are the host's own, which NVML's are."""
        ...

    def look_up(self, pids: Mapping[int, float]) -> dict[int, ProcessIdentity]:
        """What is known of `{pid: seconds since boot when it was listed}`; one that ended is absent.

        Raises:
            TelemetryError: The proc tree cannot be read.
        """
        ...

    def forget_others(self, pids: Collection[int]) -> None:
        """Drops what is remembered of any pid but these."""
        ...


class PodList(Protocol):
    """The pods of this node."""

    def pods(self) -> list[dict[str, Any]]:
        """Pod objects as the API or the kubelet gives them.

        Raises:
            DependencyError: Nobody answered, or not as expected; the message says what and how to mend it.
        """
        ...
