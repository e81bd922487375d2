"""The one table of states, and what is made of what the cluster shows."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.domain.jobs.job import wait_seconds
from helpers.domain.jobs.observation import JobObservation, Phase, steps_to
from helpers.domain.jobs.states import (
    FINAL,
    HOLDING,
    TRANSITIONS,
    WAITING,
    ForbiddenTransition,
    JobStatus,
    graph,
    is_allowed,
    steps_between,
)
from tests.fakes.jobs import NOON, after, job

S = JobStatus


def test_the_states_are_the_eight_of_the_api() -> None:
    words = ["pending", "queued", "provisioning", "running", "completed", "failed", "preempted", "cancelled"]
    assert [state.value for state in JobStatus] == words
    assert set(JobStatus) == FINAL | WAITING | HOLDING


def test_nothing_leaves_a_final_state_and_every_other_can_be_cancelled() -> None:
    for old in JobStatus:
        targets = {to for (of, to) in TRANSITIONS if of is old}
        assert not targets if old in FINAL else S.CANCELLED in targets


@pytest.mark.parametrize("old", list(JobStatus))
@pytest.mark.parametrize("new", list(JobStatus))
def test_a_job_moves_by_the_table_only(old: JobStatus, new: JobStatus) -> None:
    if is_allowed(old, new):
        assert job(status=old).moved(new, after(1), "because").status is new
    else:
        with pytest.raises(ForbiddenTransition, match=f"is {old} and cannot become {new}"):
            job(status=old).moved(new, after(1))


def test_the_graph_has_every_transition_but_the_cancellations() -> None:
    for (old, new), why in TRANSITIONS.items():
        assert (f"{old} --> {new}: {why}" in graph()) is (new is not S.CANCELLED)


@given(st.sampled_from(JobStatus), st.sampled_from(JobStatus))
def test_a_way_consists_of_allowed_steps(old: JobStatus, new: JobStatus) -> None:
    way = steps_between(old, new)
    if way is None:
        assert old in FINAL or new is S.PENDING
    else:
        assert all(is_allowed(a, b) for a, b in pairwise((old, *way)))


def test_a_life_with_one_interruption_is_counted() -> None:
    one = job().moved(S.QUEUED, after(1)).moved(S.PROVISIONING, after(10)).moved(S.RUNNING, after(20))
    assert (one.attempt_count, one.started_at, one.first_started_at) == (1, after(20), after(20))
    assert one.held_until_seconds(after(50)) == 30
    one = one.moved(S.PREEMPTED, after(70), "node went")
    assert (one.held_seconds, one.started_at, one.queued_at, one.reason) == (50, None, after(70), "node went")
    assert wait_seconds(one, after(75)) == 5
    one = one.moved(S.QUEUED, after(71)).moved(S.PROVISIONING, after(80)).moved(S.RUNNING, after(90))
    one = one.moved(S.COMPLETED, after(100))
    assert (one.attempt_count, one.held_seconds, one.ended_at, one.first_started_at) == (2, 60, after(100), after(20))
    assert one.is_final
    assert one.version == 9
    assert one.cost_usd == Decimal(0)
    assert wait_seconds(one, after(500)) == 0


@pytest.mark.parametrize(
    ("status", "phase", "steps"),
    [
        (S.PENDING, Phase.HELD, [S.QUEUED]),
        (S.PENDING, Phase.ABSENT, []),
        (S.QUEUED, Phase.HELD, []),
        (S.QUEUED, Phase.SUCCEEDED, [S.PROVISIONING, S.RUNNING, S.COMPLETED]),
        (S.QUEUED, Phase.FAILED, [S.FAILED]),
        (S.PROVISIONING, Phase.HELD, [S.PREEMPTED]),
        (S.PROVISIONING, Phase.RUNNING, [S.RUNNING]),
        (S.RUNNING, Phase.STARTING, []),
        (S.RUNNING, Phase.HELD, [S.PREEMPTED]),
        (S.RUNNING, Phase.PREEMPTED, [S.PREEMPTED]),
        (S.RUNNING, Phase.ABSENT, []),
        (S.PREEMPTED, Phase.HELD, [S.QUEUED]),
        (S.PREEMPTED, Phase.RUNNING, [S.QUEUED, S.PROVISIONING, S.RUNNING]),
        (S.CANCELLED, Phase.RUNNING, []),
        (S.COMPLETED, Phase.HELD, []),
    ],
)
def test_what_is_seen_becomes_steps(status: JobStatus, phase: Phase, steps: list[JobStatus]) -> None:
    assert list(steps_to(status, JobObservation(phase))) == steps


@pytest.mark.parametrize(
    ("status", "phase", "steps"),
    [
        (S.PROVISIONING, Phase.FAILED, [S.RUNNING, S.FAILED]),
        (S.PROVISIONING, Phase.PREEMPTED, [S.RUNNING, S.PREEMPTED]),
        (S.QUEUED, Phase.FAILED, [S.PROVISIONING, S.RUNNING, S.FAILED]),
        (S.RUNNING, Phase.FAILED, [S.FAILED]),
        (S.PROVISIONING, Phase.STARTING, []),
    ],
)
def test_what_had_its_gpus_has_run_however_it_ended(status: JobStatus, phase: Phase, steps: list[JobStatus]) -> None:
    assert list(steps_to(status, JobObservation(phase, bound_at=NOON))) == steps


@given(st.sampled_from(JobStatus), st.sampled_from(Phase), st.sampled_from([None, NOON]))
def test_what_is_seen_never_breaks_the_table(status: JobStatus, phase: Phase, bound_at: datetime | None) -> None:
    steps = steps_to(status, JobObservation(phase, bound_at=bound_at))
    assert all(is_allowed(a, b) for a, b in pairwise((status, *steps)))
    assert S.CANCELLED not in steps
