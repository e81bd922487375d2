"""What jobs do with their GPUs, as Prometheus tells it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from helpers.adapters.job_utilisation import ASKED_EVERY_SECONDS, QUERY, PrometheusUtilisation
from helpers.domain.errors import DependencyError
from helpers.domain.jobs.limits import Sample
from tests.fakes.outside import FakeClock


class FakePrometheus:
    def __init__(self, text: str) -> None:
        self.text, self.asked = text, 0

    def query_range(self, query: str, start: datetime, end: datetime, step_seconds: int) -> str:
        assert query == QUERY
        assert (end - start).total_seconds() == 1800 + 2 * step_seconds
        self.asked += 1
        return self.text


def matrix(**pods: list[tuple[int, str]]) -> str:
    series = [{"metric": {"pod": pod.replace("_", "-")}, "values": values} for pod, values in pods.items()]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}})


def read(text: str, **workers: int) -> dict[str, Any]:
    one = PrometheusUtilisation(FakePrometheus(text), FakeClock(), span_seconds=1800)
    return dict(one.samples({job_id.replace("_", "-"): count for job_id, count in workers.items()}))


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def test_the_busiest_of_a_jobs_pods_counts_at_each_instant() -> None:
    text = matrix(
        gpu_job_a_0_x=[(60, "0.01"), (90, "0.5")], gpu_job_a_1_x=[(60, "0.2"), (90, "0")], gpu_job_ab_x=[(60, "1")]
    )
    found = read(text, gpu_job_a=2, gpu_job_c=1)
    assert found == {"gpu-job-a": [Sample(at(60), 0.2), Sample(at(90), 0.5)]}


def test_what_could_not_be_read_is_unknown_and_not_zero() -> None:
    text = matrix(gpu_job_a_0_x=[(60, "NaN")], gpu_job_a_1_x=[(60, "0")])
    assert read(text, gpu_job_a=2) == {"gpu-job-a": [Sample(at(60), None)]}


def test_a_worker_that_is_not_measured_may_be_the_busy_one() -> None:
    text = matrix(gpu_job_a_0_x=[(60, "0"), (90, "0"), (120, "0")], gpu_job_a_1_x=[(90, "0.01")])
    assert read(text, gpu_job_a=2) == {"gpu-job-a": [Sample(at(60), None), Sample(at(90), 0.01), Sample(at(120), None)]}
    # Two pods of one worker, the old one and its next, are not two workers.
    text = matrix(gpu_job_a_0_x=[(60, "0")], gpu_job_a_0_y=[(60, "0")])
    assert read(text, gpu_job_a=2) == {"gpu-job-a": [Sample(at(60), None)]}
    # A job's only worker has no number.
    assert read(matrix(gpu_job_a_x=[(60, "0")]), gpu_job_a=1) == {"gpu-job-a": [Sample(at(60), 0.0)]}


@pytest.mark.parametrize("text", ["no JSON", "{}", json.dumps({"data": {"resultType": "vector", "result": []}})])
def test_another_answer_is_an_error(text: str) -> None:
    with pytest.raises(DependencyError, match="Prometheus answered"):
        read(text, gpu_job_a=1)


def test_it_is_asked_now_and_then_and_not_each_second() -> None:
    clock, store = FakeClock(), FakePrometheus(matrix())
    one = PrometheusUtilisation(store, clock, span_seconds=1800)
    for _ in range(3):
        one.samples({"gpu-job-a": 1})
    assert store.asked == 1
    clock.advance(ASKED_EVERY_SECONDS)
    one.samples({"gpu-job-a": 1})
    assert store.asked == 2
