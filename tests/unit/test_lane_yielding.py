"""Whom to ask to yield: once a burst, only what pausing does not stop, and whatever fails, realtime just waits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.domain.errors import DependencyError, Forbidden
from helpers.domain.estate.watchdog import ReleaseHook
from helpers.domain.lanes.facts import Situation
from helpers.domain.lanes.settings import CoordinatorSettings, HookRule
from helpers.domain.lanes.yielding import AskToYield, asks_to_yield
from helpers.domain.watchdog.ladder_steps import HookAnswered
from helpers.ports.cluster import ObjectRef
from helpers.ports.release_hook import HookTarget
from helpers.ports.tenant_pods import AskedPod
from helpers.services.tenant_pods import ClusterTenantPods
from tests.fakes.cluster import FakeCluster
from tests.fakes.coordinator_world import CoordinatorWorld, FakeRedis, FakeTenantPods
from tests.fakes.lanes import NIGHT, NOON, queue, rule, settings, situation
from tests.fakes.outside import FakeEvents

HOOK = HookRule(
    tenant="ollama",
    namespace="ai",
    kind="Deployment",
    workload="ollama",
    container="main",
    hook=ReleaseHook(port=8080, path="/yield", timeout_seconds=5, remeasure_seconds=10),
)
LANES = settings(rule("realtime", "realtime"), rule("batch", on_realtime="yield"), hooks=(HOOK,))
WORKING, IDLE = queue("realtime", active_count=1), queue("realtime")
STILL_RUNS = queue("batch", paused=True, active_count=2)
ASK = AskToYield("batch", "ollama", 2, "realtime waits for 2 of batch")
NOBODY: frozenset[str] = frozenset()


def asks(now: Situation, asked: frozenset[str] = NOBODY, lanes: CoordinatorSettings = LANES) -> list[AskToYield]:
    return list(asks_to_yield(lanes, now, asked)[0])


def test_batch_that_still_runs_after_the_pause_is_asked() -> None:
    assert asks(situation(WORKING, STILL_RUNS)) == [ASK]
    assert asks(situation(queue("realtime", wait_count=1), STILL_RUNS)) == [ASK]


def test_a_lane_that_waits_is_never_asked() -> None:
    assert asks(situation(WORKING, STILL_RUNS), lanes=settings(rule("realtime", "realtime"), rule("batch"))) == []


def test_before_the_pause_nobody_is_asked_for_others_would_begin_instead() -> None:
    assert asks(situation(WORKING, queue("batch", active_count=2))) == []


def test_what_does_not_run_or_fits_beside_is_not_asked() -> None:
    assert asks(situation(WORKING, queue("batch", paused=True, wait_count=9))) == []
    assert asks(situation(IDLE, STILL_RUNS)) == []
    small = settings(rule("realtime", "realtime"), rule("batch", on_realtime="yield", vram_mib=512), hooks=(HOOK,))
    assert asks(situation(WORKING, STILL_RUNS), lanes=small) == []
    other = settings(rule("realtime", "realtime", tenant="vllm"), rule("batch", on_realtime="yield"), hooks=(HOOK,))
    assert asks(situation(WORKING, STILL_RUNS), lanes=other) == []


def test_a_tenant_that_is_away_is_not_asked() -> None:
    assert asks(situation(WORKING, STILL_RUNS, away={"ollama": "no answer"})) == []


def test_a_job_that_ran_on_over_its_windows_end_is_asked_as_well() -> None:
    lanes = settings(rule("realtime", "realtime"), rule("batch", on_realtime="yield", windows=[NIGHT]), hooks=(HOOK,))
    assert asks(situation(WORKING, STILL_RUNS, now_at=NOON), lanes=lanes) == [ASK]


def test_one_burst_is_one_question_and_the_next_burst_another() -> None:
    none, remembered = asks_to_yield(LANES, situation(WORKING, STILL_RUNS), frozenset({"batch"}))
    assert (none, remembered) == ((), frozenset({"batch"}))
    # Between two jobs of a burst there is a moment without any.
    gap = situation(IDLE, STILL_RUNS, busy_seconds={"realtime": 998.0})
    assert asks_to_yield(LANES, gap, remembered) == ((), frozenset({"batch"}))
    over = situation(IDLE, STILL_RUNS, busy_seconds={"realtime": 995.0})
    assert asks_to_yield(LANES, over, remembered) == ((), NOBODY)
    assert asks_to_yield(LANES, situation(WORKING, STILL_RUNS), NOBODY)[1] == {"batch"}


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "ollama-5d9c-x", "namespace": "ai", "uid": "1"},
}
ASKED = AskedPod(HookTarget("ai", "ollama-5d9c-x", "main", "10.1.2.3"), POD)


class Desk(CoordinatorWorld):
    """A world whose desk is worked by hand."""

    def __init__(self, *pods: AskedPod, lanes: CoordinatorSettings = LANES) -> None:
        super().__init__(FakeRedis(), lanes)
        self.pods = FakeTenantPods(*pods)
        self.written = FakeEvents()
        self.events = self.written
        self.start()

    def see(self, now: Situation) -> None:
        """What the loop does, and then the thread."""
        self.desk.follow(replace(now, now_seconds=self.clock.seconds))
        while self.desk.work(0):
            pass


def test_a_tenant_that_yields_is_seen_by_its_jobs_end_and_not_by_its_answer() -> None:
    desk = Desk(ASKED)
    desk.see(situation(WORKING, STILL_RUNS))
    assert desk.hooks.calls == [(HOOK.hook, ASKED.target)]
    assert desk.metrics.yields == []
    desk.clock.advance(3)
    desk.see(situation(WORKING, queue("batch", paused=True)))
    assert desk.metrics.yields == [("batch", "yielded")]
    assert desk.log.of("lane_yielded") == [{"lane": "batch", "seconds": 3}]
    assert desk.written.recorded == [
        ("ollama-5d9c-x", "Normal", "AskedToYield", "realtime waits for 2 of batch: asked to yield, and it said 200")
    ]


def test_a_tenant_that_says_yes_and_goes_on_is_said_once_and_not_asked_again() -> None:
    desk = Desk(ASKED)
    desk.see(situation(WORKING, STILL_RUNS))
    desk.clock.advance(14.9)
    desk.see(situation(WORKING, STILL_RUNS))
    assert desk.metrics.yields == []
    desk.clock.advance(0.2)
    desk.see(situation(WORKING, STILL_RUNS))
    desk.see(situation(WORKING, STILL_RUNS))
    assert desk.metrics.yields == [("batch", "no_effect")]
    assert len(desk.log.of("yield_without_effect")) == len(desk.hooks.calls) == 1


def test_a_hook_that_fails_is_seen_and_realtime_waits() -> None:
    desk = Desk(ASKED)
    desk.hooks.answer = lambda: HookAnswered(False, "503")
    desk.see(situation(WORKING, STILL_RUNS))
    desk.see(situation(WORKING, STILL_RUNS))
    assert desk.metrics.yields == [("batch", "failed")]
    (said,) = desk.log.of("yield_failed")
    assert (said["reason"], said["text"]) == ("ollama-5d9c-x: 503", "realtime waits for the jobs that run")
    assert desk.written.recorded[0][1] == "Warning"


@pytest.mark.parametrize(
    ("error", "why"),
    [(Forbidden("list Pod ai: 403"), "list Pod ai: 403"), (None, "no pod of Deployment ai/ollama runs")],
)
def test_pods_that_cannot_be_found_are_a_failure(error: DependencyError | None, why: str) -> None:
    desk = Desk()
    desk.pods.error = error
    desk.see(situation(WORKING, STILL_RUNS))
    assert desk.metrics.yields == [("batch", "failed")]
    assert desk.log.of("yield_failed")[0]["reason"] == why


def test_of_several_pods_one_that_refuses_is_no_failure_of_the_others() -> None:
    answers = [HookAnswered(False, "409"), HookAnswered(True, "200")]
    desk = Desk(ASKED, replace(ASKED, target=HookTarget("ai", "ollama-5d9c-y", "main", "10.1.2.4")))
    desk.hooks.answer = answers.pop
    desk.see(situation(WORKING, STILL_RUNS))
    desk.see(situation(WORKING, queue("batch", paused=True)))
    assert desk.metrics.yields == [("batch", "yielded")]
    assert [line["answered"] for line in desk.log.of("yield_asked")] == [True, False]


def test_a_dry_run_asks_nobody_and_says_so_though_its_pause_never_comes() -> None:
    desk = Desk(ASKED, lanes=LANES.model_copy(update={"dry_run": True}))
    desk.see(situation(WORKING, queue("batch", active_count=2)))
    assert desk.hooks.calls == []
    assert desk.metrics.yields == [("batch", "dry_run")]
    assert desk.log.of("yield_would_be_asked")[0]["tenant"] == "ollama"


def test_who_does_not_lead_any_more_asks_nobody() -> None:
    desk = Desk(ASKED)
    desk.leadership.leading = False
    desk.see(situation(WORKING, STILL_RUNS))
    assert desk.hooks.calls == []


def test_the_next_leader_asks_once_more() -> None:
    desk = Desk(ASKED)
    desk.see(situation(WORKING, STILL_RUNS))
    desk.desk.start_over()
    desk.see(situation(WORKING, STILL_RUNS))
    assert len(desk.hooks.calls) == 2


SPEC = {"containers": [{"name": "main"}]}


def pod(name: str, owner: str, **fields: object) -> dict[str, object]:
    reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": "u", "controller": True}
    metadata = {
        "name": name,
        "namespace": "ai",
        "labels": {"pod-template-hash": "5d9c"},
        "ownerReferences": [reference],
    }
    status = {"phase": "Running", "podIP": "10.1.2.3", **fields}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": SPEC, "status": status}


def test_the_pods_that_are_asked_are_the_workloads_own_and_run() -> None:
    cluster = FakeCluster()
    cluster.add(pod("ollama-5d9c-a", "ollama-5d9c"))
    cluster.add(pod("ollama-5d9c-b", "ollama-5d9c", phase="Pending"))
    cluster.add(pod("ollama-web-5d9c-c", "ollama-web-5d9c"))
    (found,) = ClusterTenantPods(cluster).of(HOOK)
    assert found.target == HookTarget("ai", "ollama-5d9c-a", "main", "10.1.2.3")
    assert found.pod == cluster.now(ObjectRef("v1", "Pod", "ollama-5d9c-a", "ai"))
