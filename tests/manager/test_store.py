"""What is kept, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import threading
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from helpers.adapters.sql_.connection import open_database
from helpers.adapters.sql_.store import SqlJobStore
from helpers.domain.errors import DependencyError, InputError
from helpers.domain.jobs.change import AuditEntry, IdempotencyKey, JobFilter, OutboxAction, OutboxRow, Submission, step
from helpers.domain.jobs.job import Job, JobEvent
from helpers.domain.jobs.problems import RequestInvalid
from helpers.domain.jobs.spec import read_spec
from helpers.domain.jobs.states import JobStatus
from tests.fakes.jobs import EXAMPLE, NOON, after, job, spec

S = JobStatus
VISION = JobFilter(frozenset({"vision"}))


def submission(one: Job, key: str = "", request_hash: str = "h") -> Submission:
    name = IdempotencyKey(one.project_id, key, request_hash) if key else None
    event = JobEvent(one.job_id, one.created_at, "submitted", "by alice", "alice")
    entry = AuditEntry(one.created_at, "alice", "submit", one.project_id, one.job_id, None, {"status": "pending"})
    return Submission(one, event, entry, OutboxRow(one.job_id, OutboxAction.SUBMIT, one.created_at), name)


def kept(store: SqlJobStore, job_id: str = "gpu-job-1", **changes: Any) -> Job:
    return store.submit(submission(job(job_id, **changes))).job


def test_a_job_comes_back_as_it_was_kept(store: SqlJobStore) -> None:
    whole = job("gpu-job-1", spec=read_spec(EXAMPLE), cost_usd=Decimal("12.3456"), warned=("idle",), capacity="spot")
    assert store.submit(submission(whole)).created
    assert store.job("gpu-job-1") == whole
    assert store.job("gpu-job-2") is None
    assert store.job("gpu-job-\x00") is None
    assert [event.kind for event in store.events(["ml-research"], job_id=None, after_sequence=0, limit=9)] == [
        "submitted"
    ]
    (entry,) = store.audit(["ml-research"], after_sequence=0, limit=9)
    assert (entry.actor, entry.action, entry.before, entry.after) == ("alice", "submit", None, {"status": "pending"})
    (row,) = store.due(NOON, 9)
    assert (row.job_id, row.action) == ("gpu-job-1", OutboxAction.SUBMIT)


def test_one_key_is_one_job(store: SqlJobStore) -> None:
    first = store.submit(submission(job("gpu-job-1"), "k1"))
    again = store.submit(submission(job("gpu-job-2"), "k1"))
    other = store.submit(submission(job("gpu-job-3"), "k1", "another"))
    assert (first.created, again.created, other.created) == (True, False, False)
    assert again.job == other.job == first.job
    assert other.key == IdempotencyKey("vision", "k1", "h")
    elsewhere = job("gpu-job-4", spec=spec(project_id="text"))
    assert store.submit(submission(elsewhere, "k1")).created
    assert store.outbox_count() == 2


def test_one_key_from_many_threads_is_one_job(store: SqlJobStore) -> None:
    results = []

    def submit(number: int) -> None:
        results.append(store.submit(submission(job(f"gpu-job-{number}"), "same")))

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result.created for result in results) == 1
    assert len({result.job.job_id for result in results}) == 1
    assert store.outbox_count() == 1


def test_an_id_that_is_taken_is_told_and_nothing_of_it_is_kept(store: SqlJobStore) -> None:
    kept(store)
    with pytest.raises(exc.IntegrityError):
        kept(store)
    assert store.outbox_count() == 1


def test_steps_are_kept_whole_with_their_outbox_row(store: SqlJobStore) -> None:
    one = kept(store)
    (row,) = store.due(NOON, 9)
    steps = [step(one, S.QUEUED, after(1), "made")]
    steps.append(step(steps[0].new, S.PROVISIONING, after(2), "its turn", audit_action="let_go"))
    assert store.apply(steps, done=row)
    assert store.job(one.job_id) == steps[-1].new
    assert store.outbox_count() == 0
    events = store.events(["vision"], job_id=one.job_id, after_sequence=0, limit=9)
    assert [event.kind for event in events] == ["submitted", "queued", "provisioning"]
    assert store.events(["vision"], job_id=None, after_sequence=events[0].sequence, limit=1) == [events[1]]
    assert [entry.action for entry in store.audit(["vision"], after_sequence=0, limit=9)] == ["submit", "let_go"]


def test_of_two_writers_the_later_one_writes_nothing(store: SqlJobStore) -> None:
    one = kept(store)
    assert store.apply([step(one, S.CANCELLED, after(1), "mine")])
    (row,) = store.due(NOON, 9)
    late = [step(one, S.QUEUED, after(2), "made")]
    assert not store.apply(late, done=row)
    assert store.job(one.job_id).status is S.CANCELLED  # type: ignore[union-attr]
    assert store.outbox_count() == 1
    assert len(store.events(["vision"], job_id=None, after_sequence=0, limit=9)) == 2


def test_what_was_held_is_kept_by_attempt(store: SqlJobStore) -> None:
    one = kept(store, spec=spec(workers=2, gpu_requirements={"gpu_type": "T4", "gpu_count": 2}))
    changes = []
    for new, at in [(S.QUEUED, 1), (S.PROVISIONING, 10), (S.RUNNING, 20), (S.PREEMPTED, 50), (S.QUEUED, 51)]:
        changes.append(step(one, new, after(at), ""))
        one = changes[-1].new
    for new in (S.PROVISIONING, S.RUNNING):
        changes.append(step(one, new, after(60), ""))
        one = changes[-1].new
    assert store.apply(changes)
    first, second = store.held(["vision"], NOON, after(100))
    assert (first.attempt, first.amount, first.from_at, first.to_at) == (1, 4, after(20), after(50))
    assert (second.attempt, second.gpu_type, second.from_at, second.to_at) == (2, "T4", after(60), None)
    assert store.held(["vision"], after(50), after(60)) == []
    assert len(store.held(["vision"], after(49), after(61))) == 2
    assert store.held(["text"], NOON, after(100)) == []
    assert store.counts(["vision"], NOON, after(1)) == {S.RUNNING: 1}
    assert store.counts(["vision"], after(1), after(2)) == {}


def test_pages_hold_every_job_once_newest_first_while_others_are_submitted(store: SqlJobStore) -> None:
    for number in range(7):
        kept(store, f"gpu-job-{number}", created_at=after(number // 2))
    kept(store, "gpu-job-x", spec=spec(project_id="text"))
    seen: list[str] = []
    cursor = ""
    while True:
        page = store.page(VISION, cursor, 3)
        seen += [one.job_id for one in page.jobs]
        kept(store, f"gpu-job-late-{len(seen)}", created_at=after(99))
        cursor = page.next_cursor
        if not cursor:
            break
    assert seen == [f"gpu-job-{number}" for number in (6, 5, 4, 3, 2, 1, 0)]


@pytest.mark.parametrize("cursor", ["x", "!", "WzEsMl0", "WyIyMDI2LTAxLTAxIiwieCJd", "bnVsbA", "\x00"])
def test_a_cursor_that_is_none_of_ours_is_refused(store: SqlJobStore, cursor: str) -> None:
    with pytest.raises(RequestInvalid, match="begin without a cursor"):
        store.page(VISION, cursor, 3)


def test_lists_are_filtered(store: SqlJobStore) -> None:
    kept(store, "gpu-job-a", spec=spec(priority="high"), submitted_by="bob")
    kept(store, "gpu-job-b", spec=spec(job_name="other"), created_at=after(60))
    store.apply([step(kept(store, "gpu-job-c"), S.CANCELLED, after(1), "")])

    def ids(**wanted: Any) -> set[str]:
        return {one.job_id[-1] for one in store.page(replace(VISION, **wanted), "", 9).jobs}

    assert ids() == {"a", "b", "c"}
    assert ids(projects=frozenset()) == set()
    assert ids(statuses=frozenset({S.CANCELLED})) == {"c"}
    assert ids(priority="high") == {"a"}
    assert ids(job_name="other") == {"b"}
    assert ids(submitted_by="bob") == {"a"}
    assert ids(created_from_at=after(60)) == {"b"}
    assert ids(created_to_at=after(60)) == {"a", "c"}


def test_the_queue_holds_what_is_not_over(store: SqlJobStore) -> None:
    one = kept(store, "gpu-job-a", spec=spec(max_duration_hours=2))
    store.apply([step(kept(store, "gpu-job-b"), S.CANCELLED, after(1), "")])
    (row,) = store.queue()
    assert (row.job_id, row.demand, row.max_duration_hours, row.status) == (
        "gpu-job-a",
        one.spec.demand,
        2.0,
        S.PENDING,
    )
    assert store.unfinished() == [one]


def test_durations_are_of_jobs_that_ended_well(store: SqlJobStore) -> None:
    for number, end in enumerate((S.COMPLETED, S.FAILED)):
        one, changes = kept(store, f"gpu-job-{number}"), []
        for new, at in [(S.QUEUED, 1), (S.PROVISIONING, 10), (S.RUNNING, 20), (end, 70)]:
            changes.append(step(one, new, after(at), ""))
            one = changes[-1].new
        assert store.apply(changes)
    (run,) = store.finished_runs(9)
    assert (run.project_id, run.job_name, run.seconds) == ("vision", "train", 50)


def test_what_cannot_be_done_comes_back_later(store: SqlJobStore) -> None:
    kept(store)
    (row,) = store.due(NOON, 9)
    store.try_again(row, after(30), "no answer " * 500)
    assert store.due(after(29), 9) == []
    (again,) = store.due(after(30), 9)
    assert (again.tries_count, len(again.last_error)) == (1, 1000)
    store.done(again)
    assert store.due(after(99), 9) == []


@pytest.mark.parametrize("statement", ["update {} set actor = 'x'", "delete from {}"])
@pytest.mark.parametrize("table", ["job_events", "audit"])
def test_history_and_audit_are_never_changed(
    store: SqlJobStore, database: sa.Engine, table: str, statement: str
) -> None:
    kept(store)
    with pytest.raises(exc.DBAPIError, match="never changed or removed"), database.begin() as connection:
        connection.execution_options(writes=True).execute(sa.text(statement.format(table)))
    assert len(store.events(["vision"], job_id=None, after_sequence=0, limit=9)) == 1


def test_a_history_that_is_read_on_misses_nothing_that_is_committed_later(
    store: SqlJobStore, database: sa.Engine, url: str
) -> None:
    if url.startswith("sqlite"):
        pytest.skip("SQLite has one writer, so numbers are in the order of commits")
    kept(store, "gpu-job-1")
    slow = database.connect()
    begun = slow.begin()
    store._insert(slow, submission(job("gpu-job-2")))
    kept(store, "gpu-job-3")

    def read_on(sequence: int) -> list[tuple[int, str]]:
        found = store.events(["vision"], job_id=None, after_sequence=sequence, limit=9)
        return [(event.sequence, event.job_id) for event in found]

    def audited(sequence: int) -> list[tuple[int, str]]:
        return [(one.sequence, one.subject) for one in store.audit(["vision"], after_sequence=sequence, limit=9)]

    first, first_audited = read_on(0), audited(0)
    assert [job_id for _, job_id in first] == [job_id for _, job_id in first_audited] == ["gpu-job-1"]
    begun.commit()
    slow.close()
    assert [job_id for _, job_id in read_on(first[-1][0])] == ["gpu-job-2", "gpu-job-3"]
    assert [job_id for _, job_id in audited(first_audited[-1][0])] == ["gpu-job-2", "gpu-job-3"]


def test_silence_is_told_as_such() -> None:
    silent = open_database("postgresql://nobody:secret-word@127.0.0.1:1/none")
    with pytest.raises(DependencyError, match="did not find the job") as raised:
        SqlJobStore(silent).job("gpu-job-1")
    assert "secret-word" not in str(raised.value)
    assert not SqlJobStore(silent).answers()


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", ""])
def test_an_address_of_another_database_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="sqlite:///"):
        open_database(url)
