"""The leader's turns, on a real database with an engine that a test moves."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from helpers.domain.errors import CheckFailed, ClusterError, Forbidden, NotFound, Rejected
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.limits import Sample
from helpers.domain.jobs.observation import JobObservation, Phase
from helpers.domain.jobs.states import JobStatus
from tests.fakes.manager import ManagerBench

S = JobStatus


@pytest.fixture
def bench(tmp_path: Path) -> ManagerBench:
    return ManagerBench(tmp_path)


def running(bench: ManagerBench, **changes: object) -> str:
    """A job that runs."""
    job_id = bench.submit(**changes)
    bench.turn()
    bench.engine.see(job_id, Phase.RUNNING)
    bench.turn()
    assert bench.job(job_id).status is S.RUNNING
    return job_id


def test_a_job_from_its_submit_to_its_end(bench: ManagerBench) -> None:
    job_id = running(bench)
    bench.engine.see(job_id, Phase.SUCCEEDED, "all pods succeeded")
    bench.turn(3600)
    job = bench.job(job_id)
    assert (job.status, job.reason, job.attempt_count) == (S.COMPLETED, "all pods succeeded", 1)
    assert bench.history(job_id) == ["submitted", "queued", "provisioning", "running", "completed"]
    assert bench.engine.calls == [("ensure", job_id), ("let_go", job_id)]
    # An 80 GB A100 on demand: 27.44705 USD for eight an hour.
    assert job.cost_usd == pytest.approx(Decimal("3.4309") * 3601 / 3600, abs=Decimal("0.01"))
    assert bench.metrics.states == {"queued": 1, "provisioning": 1, "running": 1, "completed": 1}
    assert bench.metrics.waits == [1.0]


def test_who_does_not_fit_is_held_until_somebody_ends(bench: ManagerBench) -> None:
    first, second = (
        bench.submit(gpu_requirements={"gpu_type": "A100", "gpu_memory_gb": 80, "gpu_count": 6}) for _ in "12"
    )
    bench.turn()
    assert (bench.job(first).status, bench.job(second).status) == (S.PROVISIONING, S.QUEUED)
    for _ in range(3):
        bench.turn()
    assert bench.engine.done("let_go") == [first]
    bench.engine.see(first, Phase.SUCCEEDED)
    bench.turn()
    assert bench.job(second).status is S.PROVISIONING


def test_an_engine_that_decides_itself_is_followed(bench: ManagerBench) -> None:
    bench.engine.itself = True
    job_id = bench.submit()
    bench.turn()
    bench.turn()
    assert bench.job(job_id).status is S.QUEUED
    assert bench.engine.done("let_go") == []
    bench.engine.see(job_id, Phase.STARTING, "admitted by its ClusterQueue")
    bench.turn()
    assert bench.job(job_id).reason == "admitted by its ClusterQueue"


def test_nobody_acts_who_does_not_lead(bench: ManagerBench) -> None:
    bench.leadership.leading = False
    job_id = bench.submit()
    bench.turn()
    assert bench.job(job_id).status is S.PENDING
    assert bench.engine.calls == []


def test_leadership_that_is_lost_in_a_turn_stops_it(bench: ManagerBench) -> None:
    ids = [bench.submit() for _ in range(3)]

    def lose(act: str, job: Job) -> None:
        bench.leadership.leading = False

    bench.engine.before = lose
    bench.turn()
    assert bench.engine.done("ensure") == ids[:1]


@pytest.mark.parametrize("act", ["ensure", "let_go", "hold", "observe", "capacity"])
def test_a_cluster_that_is_silent_is_asked_again(bench: ManagerBench, act: str) -> None:
    job_id = running(bench, preemptible=True) if act == "hold" else bench.submit()
    if act == "hold":
        bench.engine.see(job_id, Phase.PREEMPTED, "its node went")
        bench.turn()
    bench.engine.broken[act] = ClusterError("no answer")
    for _ in range(3):
        try:
            bench.turn()
        except ClusterError:
            assert act in ("observe", "capacity")
    del bench.engine.broken[act]
    for _ in range(4):
        bench.turn(10)
    assert bench.job(job_id).status is S.PROVISIONING
    assert len(set(bench.engine.done("ensure"))) == 1


@pytest.mark.parametrize("kind", [Forbidden, NotFound])
def test_what_a_person_must_mend_stands_on_the_job_once_for_each_text(
    bench: ManagerBench, kind: type[ClusterError]
) -> None:
    bench.engine.broken["ensure"] = kind("exceeded quota: jobs")
    job_id = bench.submit()
    for _ in range(5):
        bench.turn(400)
    job = bench.job(job_id)
    assert (job.status, job.reason) == (
        S.PENDING,
        "the cluster does not take it yet, and is asked again: exceeded quota: jobs",
    )
    assert len(bench.log.of("outbox_not_done")) == 5
    assert bench.history(job_id) == ["submitted", "warning"]
    bench.engine.broken["ensure"] = kind("a policy says no")
    bench.turn(400)
    assert bench.job(job_id).reason.endswith("a policy says no")
    del bench.engine.broken["ensure"]
    bench.turn(400)
    assert bench.history(job_id) == ["submitted", "warning", "warning", "queued", "provisioning"]
    assert "policy" not in bench.job(job_id).reason


def test_an_api_server_that_is_away_says_nothing_about_a_job(bench: ManagerBench) -> None:
    bench.engine.broken["ensure"] = ClusterError("no answer")
    job_id = bench.submit()
    bench.turn()
    assert (bench.job(job_id).reason, bench.history(job_id)) == ("", ["submitted"])


def test_what_the_cluster_refuses_for_good_fails_with_its_words(bench: ManagerBench) -> None:
    bench.engine.broken["ensure"] = Rejected("spec.template.spec.containers[0].image: required")
    job_id = bench.submit()
    bench.turn()
    job = bench.job(job_id)
    assert job.status is S.FAILED
    assert "containers[0].image: required" in job.reason
    assert bench.store.outbox_count() == 0


def test_one_job_that_cannot_be_made_does_not_keep_others_back(bench: ManagerBench) -> None:
    bad, good = bench.submit(), bench.submit()

    def refuse(act: str, job: Job) -> None:
        if job.job_id == bad:
            raise ClusterError("no answer")

    bench.engine.before = refuse
    bench.turn()
    assert (bench.job(bad).status, bench.job(good).status) == (S.PENDING, S.PROVISIONING)


@pytest.mark.parametrize("act", ["ensure", "let_go"])
def test_a_process_that_ends_between_act_and_record_is_followed_by_one_that_finds_out(
    bench: ManagerBench, act: str
) -> None:
    job_id = bench.submit()
    apply = bench.store.apply
    died: list[str] = []

    class Died(BaseException):
        pass

    def die(*args: object, **kwargs: object) -> bool:
        if bench.engine.done(act) and not died:
            died.append(act)
            raise Died
        return apply(*args, **kwargs)  # type: ignore[arg-type]

    bench.store.apply = die  # type: ignore[method-assign]
    with pytest.raises(Died):
        bench.turn()
    bench.loop = bench.new_loop()
    for _ in range(3):
        bench.turn()
    assert bench.job(job_id).status is S.PROVISIONING
    assert bench.job(job_id).attempt_count == 1
    assert bench.history(job_id) == ["submitted", "queued", "provisioning"]
    assert bench.engine.done("let_go") == [job_id]
    assert bench.store.outbox_count() == 0


def test_waiting_for_a_node_costs_nothing(bench: ManagerBench) -> None:
    job_id = bench.submit()
    bench.turn()
    bench.turn(3600)
    assert bench.job(job_id).status is S.PROVISIONING
    bench.engine.jobs[job_id] = JobObservation(Phase.RUNNING, "", bench.clock.now_at() - timedelta(seconds=100))
    bench.turn(20)
    job = bench.job(job_id)
    assert job.started_at == bench.clock.now_at() - timedelta(seconds=120)
    (held,) = bench.store.held(["vision"], bench.clock.now_at() - timedelta(days=1), bench.clock.now_at())
    assert held.from_at == job.started_at
    assert bench.purse.until(job, bench.clock.now_at()).known_usd == pytest.approx(
        Decimal("0.1144"), abs=Decimal("0.0001")
    )


def test_what_was_missed_while_nobody_looked_is_written_down(bench: ManagerBench) -> None:
    job_id = bench.submit()
    bench.turn()
    bench.engine.see(job_id, Phase.FAILED, "exit code 3")
    bench.loop = bench.new_loop()
    bench.turn(7200)
    assert bench.history(job_id) == ["submitted", "queued", "provisioning", "failed"]
    assert bench.job(job_id).reason == "exit code 3"


@pytest.mark.parametrize("was", [S.QUEUED, S.PROVISIONING])
@pytest.mark.parametrize(
    ("phase", "ended"), [(Phase.SUCCEEDED, "completed"), (Phase.FAILED, "failed"), (Phase.PREEMPTED, "preempted")]
)
def test_what_ran_while_nobody_looked_is_paid_for(
    bench: ManagerBench, was: JobStatus, phase: Phase, ended: str
) -> None:
    bench.engine.itself = was is S.QUEUED
    job_id = bench.submit(preemptible=True)
    bench.turn()
    bench.turn()
    assert bench.job(job_id).status is was
    begun_at = bench.clock.now_at()
    half, hour = timedelta(minutes=30), timedelta(hours=1)
    bench.engine.jobs[job_id] = JobObservation(phase, "seen late", begun_at + hour, bound_at=begun_at + half)
    bench.loop = bench.new_loop()
    bench.turn(7200)
    job = bench.job(job_id)
    assert bench.history(job_id) == ["submitted", "queued", "provisioning", "running", ended]
    assert (job.held_seconds, job.first_started_at) == (1800, begun_at + half)
    assert job.cost_usd == Decimal("0.5146")  # half an hour of an A100's spot price
    now_at = bench.clock.now_at()
    (held,) = bench.store.held(["vision"], now_at - timedelta(days=1), now_at)
    assert (held.from_at, held.to_at) == (begun_at + half, begun_at + hour)


def test_a_run_of_which_nobody_knows_how_long_it_took_says_nothing_of_the_next(bench: ManagerBench) -> None:
    job_id = bench.submit()
    bench.turn()
    ended_at = bench.clock.now_at()
    bench.engine.jobs[job_id] = JobObservation(Phase.SUCCEEDED, "its pods are gone", ended_at)
    bench.turn(7200)
    assert (bench.job(job_id).status, bench.job(job_id).held_seconds) == (S.COMPLETED, 0)
    assert bench.store.finished_runs(9) == []


def test_jobs_of_a_project_that_cannot_be_read_are_left_as_they_are(bench: ManagerBench) -> None:
    theirs, preempted = running(bench, project_id="text"), running(bench, project_id="text", preemptible=True)
    bench.engine.see(preempted, Phase.PREEMPTED, "its node went")
    del bench.engine.jobs[theirs]  # away for a moment, as far as anybody knows
    bench.turn(20)
    ours = bench.submit()
    bench.engine.jobs.clear()
    bench.engine.unreadable = {"text": "list Job text: 403"}
    for _ in range(4):
        bench.turn(3600)
    assert bench.job(theirs).status is S.RUNNING
    assert bench.job(preempted).status is S.PREEMPTED
    assert bench.job(ours).status is S.PROVISIONING
    assert bench.metrics.unread_projects == {"text"}
    (line,) = bench.log.of("project_not_read")
    assert line == {"namespace": "text", "reason": "list Job text: 403"}
    # Read again: what was away before is not away for hours now.
    bench.engine.unreadable = {}
    bench.turn()
    assert bench.job(theirs).status is S.RUNNING
    assert bench.metrics.unread_projects == frozenset()
    assert bench.log.of("project_read_again") == [{"namespace": "text"}]
    bench.engine.see(theirs, Phase.SUCCEEDED)
    bench.turn()
    assert bench.job(theirs).status is S.COMPLETED


def test_a_job_cancelled_while_its_objects_are_made_leaves_none(bench: ManagerBench) -> None:
    job_id = bench.submit()

    def cancel(act: str, job: Job) -> None:
        if act == "ensure":
            bench.desk.cancel(job_id, "alice")

    bench.engine.before = cancel
    bench.turn()
    bench.turn()
    assert bench.job(job_id).status is S.CANCELLED
    assert bench.engine.jobs == {}
    assert bench.store.outbox_count() == 0


def test_a_job_cancelled_before_anything_was_made_is_never_made(bench: ManagerBench) -> None:
    job_id = bench.submit()
    bench.desk.cancel(job_id, "alice")
    bench.turn()
    assert bench.engine.done("ensure") == []
    assert bench.desk.cancel(job_id, "bob").reason == "alice cancelled it"
    with pytest.raises(NotFound):
        bench.desk.cancel("gpu-job-none", "alice")


def test_a_job_that_is_over_is_not_cancelled(bench: ManagerBench) -> None:
    job_id = running(bench)
    bench.engine.see(job_id, Phase.SUCCEEDED)
    bench.turn()
    with pytest.raises(CheckFailed, match="is completed and cannot become cancelled"):
        bench.desk.cancel(job_id, "alice")


def test_a_running_job_that_is_cancelled_is_billed(bench: ManagerBench) -> None:
    job_id = running(bench)
    bench.clock.advance(3600)
    assert bench.desk.cancel(job_id, "alice").cost_usd > 3
    (held,) = bench.store.held(["vision"], bench.clock.now_at() - timedelta(days=1), bench.clock.now_at())
    assert held.to_at == bench.clock.now_at()


def test_an_interrupted_job_goes_on_three_times_on_spot_and_then_on_demand(bench: ManagerBench) -> None:
    job_id = running(bench, preemptible=True)
    capacities = [bench.job(job_id).capacity]
    for _ in range(4):
        bench.engine.see(job_id, Phase.PREEMPTED, "its node was taken back")
        bench.turn(60)
        assert bench.job(job_id).status in (S.PREEMPTED, S.PROVISIONING)
        bench.turn(20)
        bench.engine.see(job_id, Phase.RUNNING)
        bench.turn(20)
        assert bench.job(job_id).status is S.RUNNING
        capacities.append(bench.job(job_id).capacity)
    assert capacities == ["spot", "spot", "spot", "spot", "on-demand"]
    assert bench.engine.capacities[job_id] == "on-demand"
    assert bench.job(job_id).attempt_count == 5
    events = bench.store.events(["vision"], job_id=job_id, after_sequence=0, limit=99)
    assert "its node was taken back; 60 s of work are lost; retry 1 of 3 on spot capacity" in [
        e.message for e in events
    ]


def test_a_job_that_was_just_let_go_and_is_seen_held_was_not_interrupted(bench: ManagerBench) -> None:
    job_id = bench.submit()
    bench.turn()
    bench.engine.see(job_id, Phase.HELD)
    bench.turn(5)
    assert bench.job(job_id).status is S.PROVISIONING
    bench.turn(6)
    assert bench.job(job_id).status is S.PREEMPTED


@pytest.mark.parametrize(("runs", "status"), [(False, S.QUEUED), (True, S.FAILED)])
def test_objects_that_somebody_deleted(bench: ManagerBench, runs: bool, status: JobStatus) -> None:
    bench.engine.pools = {}
    job_id = bench.submit()
    bench.turn()
    if runs:
        bench.engine.see(job_id, Phase.RUNNING)
        bench.turn()
    del bench.engine.jobs[job_id]
    bench.turn()
    bench.turn(29)
    assert bench.engine.done("ensure") == [job_id]
    bench.turn(2)
    bench.turn()
    assert bench.job(job_id).status is status
    assert len(bench.engine.done("ensure")) == (1 if runs else 2)


def test_money_and_time_stop_a_job_after_a_warning(bench: ManagerBench) -> None:
    job_id = running(bench, budget_limit_usd=10, max_duration_hours=100)
    bench.turn(3600 * 2.4)
    bench.turn()
    assert bench.history(job_id)[-1:] == ["warning"]
    bench.turn(3600)
    job = bench.job(job_id)
    assert job.status is S.FAILED
    assert job.reason.startswith("budget_limit: it has cost 1")
    assert bench.job(job_id).warned == ("budget_limit",)
    assert bench.history(job_id).count("warning") == 1
    bench.turn()
    assert bench.engine.done("remove") == [job_id]
    actions = [entry.action for entry in bench.store.audit(["vision"], after_sequence=0, limit=9)]
    assert actions == ["submit", "stop"]


def test_an_idle_job_is_stopped_after_half_an_hour(bench: ManagerBench) -> None:
    job_id = running(bench)
    start_at = bench.clock.now_at()
    bench.utilisation.measured[job_id] = [Sample(start_at + timedelta(seconds=s), 0.01) for s in range(0, 1801, 60)]
    bench.turn(1800)
    assert bench.job(job_id).reason.startswith("idle: its GPUs did less than 5%")


def test_a_job_with_a_hook_is_told_every_quarter_of_an_hour(bench: ManagerBench) -> None:
    job_id = running(bench, checkpoint={"signal": "SIGUSR1"})
    for _ in range(4):
        bench.turn(450)
    assert bench.engine.done("checkpoint") == [job_id, job_id]
    bench.engine.told_at = lambda: None
    bench.turn(900)
    assert bench.history(job_id).count("checkpoint") == 2


def test_what_pods_were_told_is_noted_when_they_have_answered(bench: ManagerBench) -> None:
    """The state is as old as the asking, however late the turn that hears of the answers."""
    job_id = running(bench, checkpoint={"signal": "SIGUSR1"})
    bench.engine.told_at = lambda: None
    bench.turn(900)
    asked_at = bench.clock.now_at()
    assert bench.job(job_id).checkpoint_at is None
    bench.engine.told_at = lambda: asked_at
    bench.turn(30)
    assert bench.job(job_id).checkpoint_at == asked_at
    bench.turn(869)
    assert bench.history(job_id).count("checkpoint") == 1
    bench.turn(1)
    assert len(bench.engine.done("checkpoint")) == 3


def test_a_former_leader_does_not_go_on_saying_that_a_project_cannot_be_read(bench: ManagerBench) -> None:
    turns = []
    bench.clock.when_slept = lambda: turns.append(1)
    bench.engine.unreadable = {"text": "list Job text: 403"}
    bench.loop._stop = lambda: len(turns) >= 2
    bench.loop.run()
    assert bench.metrics.unread_projects == {"text"}
    bench.leadership.leading = False
    bench.loop._stop = lambda: len(turns) >= 4
    bench.loop.run()
    assert bench.metrics.unread_projects == frozenset()
    assert not bench.log.of("project_read_again")  # it does not know


def test_the_loop_goes_on_after_a_failed_turn(bench: ManagerBench) -> None:
    bench.engine.broken["observe"] = ClusterError("no answer")
    turns = []
    bench.clock.when_slept = lambda: turns.append(1)
    bench.loop._stop = lambda: len(turns) >= 12
    bench.loop.run()
    assert len(bench.log.of("turn_failed")) == 12
    del bench.engine.broken["observe"]
    bench.loop._stop = lambda: len(turns) >= 24
    job_id = bench.submit()
    bench.loop.run()
    assert bench.job(job_id).status is S.PROVISIONING
    assert bench.metrics.leading
