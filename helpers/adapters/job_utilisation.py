"""What jobs do with their GPUs, from Prometheus: the project's own exporter, or NVIDIA's DCGM exporter.

Both know whose a card is by the processes or the pods on it. A job that has no process on its card yet is
not measured, and what is not measured is not idle; on a shared card it is as busy as the card.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
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

    def samples(self, job_ids: Sequence[str]) -> Mapping[str, Sequence[Sample]]:
        """`{job_id: samples, oldest first}`; a job that nobody measured is missing."""
        now_seconds = self._clock.monotonic_seconds()
        if self._asked_seconds is None or now_seconds >= self._asked_seconds + ASKED_EVERY_SECONDS:
            self._asked_seconds = now_seconds  # also where there is no answer: not again each second
            self._by_pod = {}
            now_at = self._clock.now_at()
            self._by_pod = _read(self._queries.query_range(QUERY, now_at - self._span, now_at, STEP_SECONDS))
        found = {}
        for job_id in job_ids:
            of_pods = [one for pod, samples in self._by_pod.items() if pod.startswith(f"{job_id}-") for one in samples]
            if of_pods:
                found[job_id] = _busiest(of_pods)
        return found


def _busiest(samples: Sequence[Sample]) -> list[Sample]:
    """Of all pods at each instant; one that was not read makes that instant unknown."""
    at: dict[datetime, float | None] = {}
    for one in samples:
        known = at.get(one.at, 0.0)
        at[one.at] = None if known is None or one.busiest_ratio is None else max(known, one.busiest_ratio)
    return [Sample(instant, at[instant]) for instant in sorted(at)]


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
