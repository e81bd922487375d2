"""The SDK against the API over real HTTP: both clients, retries, pages, and what is said when it goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from helpers.domain.jobs.observation import Phase
from helpers.domain.jobs.states import JobStatus
from helpers.sdk import gpu_wire
from helpers.sdk.gpu import (
    AsyncGPUJobClient,
    GPUJobClient,
    GPUJobError,
    JobFailed,
    JobRefused,
    ManagerUnreachable,
    WaitedTooLong,
)
from tests.fakes.jobs import EXAMPLE, document, spec
from tests.manager.scene import ALICE, BOB, Scene


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that a test need not wait for."""
    monkeypatch.setattr(gpu_wire, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(gpu_wire, "FIRST_LOOK_SECONDS", 0.01)


@pytest.fixture
def client(scene: Scene) -> Iterator[GPUJobClient]:
    with GPUJobClient(str(scene.client.base_url), token=ALICE) as one:
        yield one


class Flaky(httpx.BaseTransport):
    """Loses answers: the request arrives, and whoever asked does not hear."""

    def __init__(self, lost_count: int) -> None:
        self.left, self.keys = lost_count, list[str]()
        self._real = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.keys.append(request.headers.get("Idempotency-Key", ""))
        answer = self._real.handle_request(request)
        if self.left:
            self.left -= 1
            answer.read()
            raise httpx.ReadError("the connection broke")
        return answer


class InAThread:
    """`AsyncGPUJobClient`, called as the other is."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def called(*arguments: Any, **options: Any) -> Any:
            async with AsyncGPUJobClient(self._url, token=ALICE) as one:
                found = getattr(one, name)(*arguments, **options)
                return [each async for each in found] if hasattr(found, "__aiter__") else await found

        return lambda *arguments, **options: asyncio.run(called(*arguments, **options))


@pytest.fixture(params=["sync", "async"])
def either(request: pytest.FixtureRequest, scene: Scene) -> Iterator[Any]:
    """Each test once with each client."""
    url = str(scene.client.base_url)
    if request.param == "async":
        yield InAThread(url)
        return
    with GPUJobClient(url, token=ALICE) as one:
        yield one


def test_a_job_from_submit_to_its_end(either: Any, scene: Scene) -> None:
    done = either.submit(spec(job_name="train"))
    assert (done.status, done.queue_position) == (JobStatus.PENDING, 1)
    scene.bench.turn()
    scene.bench.turn()
    scene.bench.engine.see(done.job_id, Phase.RUNNING)
    scene.bench.turn()
    assert either.get(done.job_id).status is JobStatus.RUNNING
    assert either.logs(done.job_id, tail_lines=7) == "worker 0: the last 7 lines\n"
    scene.bench.engine.see(done.job_id, Phase.SUCCEEDED)
    scene.bench.turn(3600)
    ended = either.wait(done.job_id, check=True)
    assert ended.status is JobStatus.COMPLETED
    assert ended.cost_usd > 0
    assert [event.kind for event in either.events(done.job_id)] == [
        "submitted", "queued", "provisioning", "running", "completed",
    ]  # fmt: skip


def test_the_references_example_is_taken_as_it_stands(scene: Scene) -> None:
    scene.callers.allowed.add(("alice", "create", "ml-research"))
    scene.callers.allowed.add(("alice", "get", "ml-research"))
    with GPUJobClient(api_url=str(scene.client.base_url), token=ALICE) as client:
        job = client.get(client.submit(EXAMPLE).job_id)
    assert (job.job_name, job.gpu_requirements.gpu_count) == ("finetune_llama_7b", 4)


def test_fields_by_name_go_before_those_of_a_template(either: Any) -> None:
    done = either.submit(document(job_name="template"), job_name="mine", priority="high")
    job = either.get(done.job_id)
    assert (job.job_name, job.priority) == ("mine", "high")


def test_a_refusal_carries_every_problem(either: Any) -> None:
    with pytest.raises(JobRefused) as refused:
        either.submit(document(job_nam="x"), project_id="nowhere!")
    assert refused.value.status_code == 422
    assert {problem.path for problem in refused.value.problems} == {"job_nam", "project_id"}
    assert 'did you mean "job_name"?' in str(refused.value)


def test_another_projects_job_is_as_if_it_were_not_there(either: Any, scene: Scene) -> None:
    theirs = scene.submit(document(project_id="text"), BOB).json()["job_id"]
    with pytest.raises(JobRefused, match="that you may read") as refused:
        either.get(theirs)
    assert refused.value.status_code == 404


def test_lists_are_fetched_page_by_page(either: Any, scene: Scene) -> None:
    for number in range(7):
        scene.bench.submit(job_name=f"job-{number}")
    assert [job.job_name for job in either.list(page_count=3)] == [f"job-{number}" for number in reversed(range(7))]
    assert [job.job_name for job in either.list(job_name="job-3", status="pending", project_id="vision")] == ["job-3"]
    assert list(either.list(status=["failed", "cancelled"])) == []


def test_a_page_that_nobody_looks_at_is_not_fetched(scene: Scene) -> None:
    for number in range(5):
        scene.bench.submit(job_name=f"job-{number}")
    transport = Flaky(0)
    with httpx.Client(transport=transport) as http:
        client = GPUJobClient(str(scene.client.base_url), token=ALICE, client=http)
        assert next(client.list(page_count=2)).job_name == "job-4"
    assert len(transport.keys) == 1


def test_history_goes_on_where_it_was_left(either: Any, scene: Scene) -> None:
    job_id = scene.bench.submit()
    seen = list(either.events())
    scene.bench.turn()
    assert [event.kind for event in either.events(after=seen[-1].sequence)] == ["queued", "provisioning"]
    assert [event.job_id for event in either.events(project_id="vision")] == [job_id] * 3


def test_the_audit_log_says_who_changed_what_and_is_read_on_from_a_sequence(either: Any, scene: Scene) -> None:
    job_id = scene.bench.submit()
    scene.bench.submit(project_id="text")
    (entry,) = either.audit()
    assert (entry.actor, entry.action, entry.subject, entry.before) == ("alice", "submit", job_id, None)
    either.cancel(job_id)
    (later,) = either.audit(project_id="vision", after=entry.sequence)
    assert (later.action, later.before, later.after) == (
        "cancel", {"status": "pending"}, {"status": "cancelled", "reason": "alice cancelled it"},
    )  # fmt: skip
    assert list(either.audit(after=later.sequence)) == []


def test_a_cancelled_job_may_be_cancelled_again(either: Any, scene: Scene) -> None:
    job_id = scene.bench.submit()
    assert either.cancel(job_id).status is JobStatus.CANCELLED
    assert either.cancel(job_id).status is JobStatus.CANCELLED
    with pytest.raises(JobFailed, match="is cancelled: alice cancelled it"):
        either.wait(job_id, check=True)
    assert either.wait(job_id).status is JobStatus.CANCELLED


def test_waiting_has_an_end(either: Any, scene: Scene) -> None:
    job_id = scene.bench.submit()
    with pytest.raises(WaitedTooLong, match=r"is pending after .* it goes on") as late:
        either.wait(job_id, timeout_seconds=0.05)
    assert late.value.job.job_id == job_id


def test_money_queues_and_prices(either: Any, scene: Scene) -> None:
    scene.bench.submit()
    scene.bench.board.look()
    scene.bench.clock.advance(1)
    assert [(queue.pool, queue.waiting_count) for queue in either.queues().queues] == [("A100_80GB", 1)]
    assert either.usage("vision").jobs == {"pending": 1}
    assert [quota.project_id for quota in either.quotas()] == ["vision"]
    assert {price.gpu for price in either.pricing().prices} >= {"A100_80GB", "T4_16GB"}


def test_a_lost_answer_to_a_submit_makes_no_second_job(scene: Scene) -> None:
    transport = Flaky(3)
    with httpx.Client(transport=transport) as http:
        client = GPUJobClient(str(scene.client.base_url), token=ALICE, client=http)
        done = client.submit(document())
        assert [job.job_id for job in client.list()] == [done.job_id]
    assert len(set(transport.keys[:4])) == 1
    assert transport.keys[0]


def test_two_submits_are_two_jobs_unless_they_share_a_key(client: GPUJobClient) -> None:
    assert client.submit(document()).job_id != client.submit(document()).job_id
    first = client.submit(document(), idempotency_key="nightly-17")
    assert client.submit(document(), idempotency_key="nightly-17").job_id == first.job_id
    with pytest.raises(JobRefused, match="has it with another body") as refused:
        client.submit(document(job_name="other"), idempotency_key="nightly-17")
    assert refused.value.status_code == 409


def test_a_manager_that_is_being_replaced_is_asked_again(client: GPUJobClient, scene: Scene) -> None:
    scene.callers.broken = "no API server"
    answers = iter([True, True, False])

    def mended() -> bool:
        if not next(answers, False):
            scene.callers.broken = ""
        return False

    original = scene.callers.caller
    scene.callers.caller = lambda token: (mended(), original(token))[1]  # type: ignore[method-assign]
    assert client.queues().engine == "fake"


@pytest.mark.parametrize("kind", ["closed", "503"])
def test_a_manager_that_is_gone_is_an_error_with_its_address(kind: str, scene: Scene) -> None:
    url = "http://127.0.0.1:1" if kind == "closed" else str(scene.client.base_url)
    scene.callers.broken = "no API server"
    client = GPUJobClient(url, token=ALICE, tries_count=3)
    with pytest.raises(ManagerUnreachable, match=r"http://127\.0\.0\.1:\d+ did not answer 3 times, last: "):
        client.queues()


def test_the_token_is_read_anew_each_time(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPUMEM_MANAGER_TOKEN", raising=False)
    file = tmp_path / "token"
    monkeypatch.setattr(gpu_wire, "TOKEN_FILE", file)
    with GPUJobClient(str(scene.client.base_url)) as client:
        with pytest.raises(GPUJobError, match=r"no token was given, .* cannot be read: No such file"):
            client.queues()
        file.write_text("token-of-a-stranger\n")
        with pytest.raises(JobRefused, match="the token is nobody's"):
            client.queues()
        file.write_text(f"{ALICE}\n")
        assert client.queues().engine == "fake"


def test_an_answer_with_more_in_it_than_is_known_is_read(scene: Scene) -> None:
    job_id = scene.bench.submit()

    def newer(request: httpx.Request) -> httpx.Response:
        body = scene.send("GET", request.url.path).json() | {"colour": "red"}
        body["gpu_requirements"]["colour"] = "red"
        return httpx.Response(200, json=body)

    client = GPUJobClient("http://manager", token=ALICE, client=httpx.Client(transport=httpx.MockTransport(newer)))
    assert client.get(job_id).job_id == job_id


@pytest.mark.parametrize(("code", "text"), [(200, "<html>"), (404, "<html>not here</html>")])
def test_an_answer_of_something_else_is_no_job(code: int, text: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(code, text=text))
    client = GPUJobClient("http://proxy", token=ALICE, client=httpx.Client(transport=transport))
    with pytest.raises(GPUJobError, match="http://proxy/api/v1/gpu/jobs/gpu-job-1 answered"):
        client.get("gpu-job-1")
