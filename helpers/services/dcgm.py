"""Snapshots from an installed dcgm-exporter instead of NVML: nothing is measured twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from helpers.domain.errors import DependencyError
from helpers.domain.telemetry.dcgm import read_dcgm
from helpers.domain.telemetry.exposition import ExpositionError, parse_exposition
from helpers.domain.telemetry.reading import DeviceSample, Failure, Fault, Snapshot
from helpers.ports.clock import Clock
from helpers.ports.log import Log
from helpers.services.pod_cache import PodCache


class DcgmSampler:
    """Makes snapshots from what `fetch` returns (raises DependencyError).

    Args:
        collection_seconds: dcgm-exporter's own collection interval. Its text has no timestamps, so a
            figure may be that old, and its sample is dated accordingly.
    """

    def __init__(
        self,
        fetch: Callable[[], str],
        pods: PodCache | None,
        *,
        collection_seconds: float,
        clock: Clock,
        log: Log,
    ) -> None:
        self._fetch = fetch
        self._pods = pods
        self._collection = timedelta(seconds=collection_seconds)
        self._clock = clock
        self._log = log
        self._last: tuple[DeviceSample, ...] = ()
        self._failure_counts: dict[tuple[str, Failure], int] = {}
        self._last_fault: Fault | None = None

    def sample(self) -> Snapshot:
        """One round."""
        at = self._clock.now_at()
        fault = None
        try:
            found = read_dcgm(parse_exposition(self._fetch()), at - self._collection)
            samples, sensors = found.samples, found.sensors
            if not samples:
                fault = Fault(Failure.DCGM_UNREACHABLE, "the answer holds no DCGM metric with a UUID label")
        except (DependencyError, ExpositionError) as error:
            fault = Fault(Failure.DCGM_UNREACHABLE, str(error))
        if fault is not None:
            samples, sensors = tuple(DeviceSample(one.gpu, at, fault=fault) for one in self._last), ()
        self._last = samples or self._last
        self._account(samples, fault)
        state = self._pods.state() if self._pods is not None else None
        directory = state.directory if state is not None else None
        snapshot = Snapshot(at, samples, sensors, source_up=fault is None, source_fault=fault)
        return replace(
            snapshot,
            budgets=directory.budgets if directory is not None else (),
            unreadable_budget_count=len(directory.unreadable) if directory is not None else 0,
            pods_up=state.up if state is not None else None,
            pods_at=state.read_at if state is not None else None,
            failure_counts=dict(self._failure_counts),
        )

    def _account(self, samples: tuple[DeviceSample, ...], fault: Fault | None) -> None:
        faults = [(one.gpu.label, one.fault) for one in samples if one.fault is not None]
        if fault is not None and not samples:
            faults = [("", fault)]
        for gpu, each in faults:
            self._failure_counts[gpu, each.failure] = self._failure_counts.get((gpu, each.failure), 0) + 1
        first = faults[0][1] if faults else None
        if first is not None and (self._last_fault is None or self._last_fault.failure != first.failure):
            self._log.warning("sample_failed", gpu=faults[0][0], reason=first.failure, detail=first.detail)
        if first is None and self._last_fault is not None:
            self._log.info("sample_whole_again")
        self._last_fault = first
