"""What jobs do with their GPUs, from Prometheus: the project's own exporter, or NVIDIA's DCGM exporter.

Both know whose a card is by the processes or the pods on it. A job that has no process on its card yet is
not measured, and what is not measured is not idle: nor is a job with a worker that is not measured, which
may be the busy one. On a shared card a job is as busy as the card.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from helpers.domain.errors import DependencyError
from helpers.domain.jobs.job import JOB_ID_PREFIX
from helpers.domain.jobs.limits import Sample
from helpers.domain.telemetry import metric_names
from helpers.ports.clock import Clock
from helpers.ports.range_queries import RangeQueries

STEP_SECONDS = 30
# The loop asks each second; what is asked there is of minutes.
ASKED_EVERY_SECONDS = 30.0
_PODS = f'pod=~"{JOB_ID_PREFIX}.+"'
QUERY = (
    f"max by (pod) ({metric_names.POD_USED}{{{_PODS}}} * 0"
    f" + on (gpu, uuid) group_left () max by (gpu, uuid) ({metric_names.UTILIZATION}))"
    f" or max by (pod) (DCGM_FI_DEV_GPU_UTIL{{{_PODS}}} / 100)"
)


class PrometheusUtilisation:
    """`ports.manager_metrics.JobUtilisation`. `span_seconds`: how far back is looked."""

    def __init__(self, queries: RangeQueries, clock: Clock, *, span_seconds: float) -> None:
        self._queries = queries
        self._clock = clock
        self._span = timedelta(seconds=span_seconds + 2 * STEP_SECONDS)
        self._asked_seconds: float | None = None
        self._by_pod: dict[str, list[Sample]] = {}

    def samples(self, workers: Mapping[str, int]) -> Mapping[str, Sequence[Sample]]:
        """`{job_id: samples, oldest first}`; a job that nobody measured is missing. `workers`: `{job_id: how many}`."""
        now_seconds = self._clock.monotonic_seconds()
        if self._asked_seconds is None or now_seconds >= self._asked_seconds + ASKED_EVERY_SECONDS:
            self._asked_seconds = now_seconds  # also where there is no answer: not again each second
            self._by_pod = {}
            now_at = self._clock.now_at()
            self._by_pod = _read(self._queries.query_range(QUERY, now_at - self._span, now_at, STEP_SECONDS))
        found = {}
        for job_id, count in workers.items():
            prefix = f"{job_id}-"
            mine = [(_worker(pod, prefix), series) for pod, series in self._by_pod.items() if pod.startswith(prefix)]
            if mine:
                found[job_id] = _busiest(mine, count)
        return found


def _worker(pod: str, prefix: str) -> str:
    """Which of its job's workers a pod is: `-1-x7k2p` is worker 1; a job's only worker has no number."""
    return pod.removeprefix(prefix).rpartition("-")[0]


def _busiest(of_pods: Iterable[tuple[str, Sequence[Sample]]], workers_count: int) -> list[Sample]:
    """Of all workers at each instant; one that was not read, or is missing, makes that instant unknown."""
    ratios: defaultdict[datetime, list[float | None]] = defaultdict(list)
    measured: defaultdict[datetime, set[str]] = defaultdict(set)
    for worker, samples in of_pods:
        for one in samples:
            ratios[one.at].append(one.busiest_ratio)
            measured[one.at].add(worker)
    found = []
    for at in sorted(ratios):
        known = [ratio for ratio in ratios[at] if ratio is not None]
        is_known = len(known) == len(ratios[at]) and len(measured[at]) >= workers_count
        found.append(Sample(at, max(known) if is_known else None))
    return found


def _read(text: str) -> dict[str, list[Sample]]:
    """`{pod: samples}` of an answer.

    Raises:
        DependencyError: it is no matrix.
    """
    try:
        answer = json.loads(text)["data"]
        if answer["resultType"] != "matrix":
            raise DependencyError(f"Prometheus answered {answer['resultType']}, not a matrix")
        return {
            series["metric"]["pod"]: [
                Sample(datetime.fromtimestamp(at_seconds, UTC), value if math.isfinite(value := float(shown)) else None)
                for at_seconds, shown in series["values"]
            ]
            for series in answer["result"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise DependencyError(f"Prometheus answered something else than a matrix: {text[:200]}") from error
