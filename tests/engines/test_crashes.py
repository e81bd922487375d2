"""A manager that is killed between any two steps: no job is run twice, and none is forgotten.

Many managers run beside each other on one lab, each with a database of its own and one job, and each is
killed at another step: before or after the n-th thing that it writes, in the cluster or in the database.
Then another one starts on the same database. Real objects, real scheduler.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.adapters.kubernetes_ import connect
from helpers.domain.estate.model import Estate
from lab.cluster import Lab
from lab.jobs import LabManager, lab_manager, settings_of
from tests.engines.scene import evict, job_object, pods_of, remove_jobs
from tests.fakes.outside import FakeLog

pytestmark = pytest.mark.lab

CLUSTER_WRITES = ("create", "merge_patch", "apply", "delete")
STORE_WRITES = ("apply", "queued", "done")
BOUND_SECONDS = 90.0


class Killed(BaseException):
    """As SIGKILL: nobody catches it."""


class Cut:
    """Counts steps once it is armed, and ends everything at number `at`. Two steps a write: before it, and after."""

    def __init__(self, at: int) -> None:
        self.at, self.count, self.armed = at, 0, False

    def step(self) -> None:
        if self.armed:
            self.count += 1
            if self.count == self.at:
                raise Killed


class Cutting:
    """Something that writes, with a cut before and after each write."""

    def __init__(self, inner: Any, cut: Cut, writes: tuple[str, ...]) -> None:
        self._inner, self._cut, self._writes = inner, cut, writes

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._writes:
            return found

        def write(*arguments: Any, **options: Any) -> Any:
            if arguments and isinstance(arguments[0], dict) and arguments[0].get("kind") == "Event":
                return found(*arguments, **options)  # written by a thread of its own, and nothing rests on it
            self._cut.step()
            answer = found(*arguments, **options)
            self._cut.step()
            return answer

        return write


class Life:
    """One job and its managers, one after another."""

    def __init__(self, lab: Lab, estate: Estate, folder: Path, at: int, asked: dict[str, Any]) -> None:
        self.cut, self.killed = Cut(at), False
        self._lab, self._url = lab, f"sqlite:///{folder}/{at}.db"
        # One project, so that each has few watches.
        settings = settings_of(estate)
        self._settings = settings.model_copy(update={"projects": settings.projects[:1]})
        self._stack = contextlib.ExitStack()
        self.manager = self._start()
        self.job_id = self.manager.submit(**asked)

    def _start(self) -> LabManager:
        cluster = Cutting(connect(self._lab.kubeconfig), self.cut, CLUSTER_WRITES)
        return self._stack.enter_context(
            lab_manager(
                self._lab, self._settings, self._url, FakeLog(), cluster=cluster,
                wrap_store=lambda store: Cutting(store, self.cut, STORE_WRITES),
            )
        )  # fmt: skip

    def turn(self) -> None:
        """One turn; a manager that is killed in it has a successor."""
        try:
            self.manager.loop.turn()
        except Killed:
            self.killed = True
            self.end()
            self.manager = self._start()

    def is_over(self) -> bool:
        return self.manager.job(self.job_id).is_final

    def end(self) -> None:
        self._stack.close()


def all_until(lives: list[Life], reached: Callable[[Life], bool]) -> None:
    end_seconds = time.monotonic() + BOUND_SECONDS
    while not all(reached(life) for life in lives):
        assert time.monotonic() < end_seconds, [life.manager.job(life.job_id) for life in lives if not reached(life)]
        for life in lives:
            if not reached(life):
                life.turn()
        time.sleep(0.05)


def test_killed_at_any_step_of_a_whole_life(jobs_lab: Lab, job_estate: Estate, tmp_path: Path) -> None:
    lives = [Life(jobs_lab, job_estate, tmp_path, at, {"seconds": 0.2}) for at in range(1, 14)]
    try:
        for life in lives:
            life.cut.armed = True
        all_until(lives, Life.is_over)
        # The last one has no such step any more: all steps were cut. (Running and completed may be one write.)
        assert all(life.killed for life in lives[:10])
        assert not lives[-1].killed
        pods = pods_of(jobs_lab, "vision")
        for life in lives:
            found = [life.manager.history(life.job_id), life.manager.job(life.job_id).attempt_count]
            assert found == [["submitted", "queued", "provisioning", "running", "completed"], 1], life.cut.at
            mine = [pod for pod in pods if pod["metadata"]["labels"]["gpumem.io/job"] == life.job_id]
            assert len(mine) == 1, life.cut.at
    finally:
        for life in lives:
            life.end()
        remove_jobs(jobs_lab, job_estate)


def test_killed_at_any_step_of_a_lost_place(jobs_lab: Lab, job_estate: Estate, tmp_path: Path) -> None:
    """From the eviction to the second attempt's run: the old Job's end, the next one's begin, and each record."""
    asked = {"seconds": None, "gpu": "A100"}
    lives = [Life(jobs_lab, job_estate, tmp_path, at, asked) for at in range(1, 16)]
    try:
        all_until(lives, lambda life: life.manager.statuses(life.job_id) == ["running"])
        first = {}
        for life in lives:
            (pod,) = [
                one for one in pods_of(jobs_lab, "vision") if one["metadata"]["labels"]["gpumem.io/job"] == life.job_id
            ]
            first[life.job_id] = job_object(jobs_lab, "vision", life.job_id)["metadata"]["uid"]
            life.cut.armed = True
            evict(jobs_lab, pod)
        all_until(lives, lambda life: life.manager.history(life.job_id).count("running") == 2)
        assert [life.killed for life in lives] == [True] * 14 + [False]
        for life in lives:
            again = ["queued", "provisioning", "running"]
            assert life.manager.history(life.job_id) == ["submitted", *again, "preempted", *again], life.cut.at
            assert life.manager.job(life.job_id).attempt_count == 2
            job = job_object(jobs_lab, "vision", life.job_id)
            assert job["metadata"]["annotations"]["gpumem.io/attempt"] == "2", life.cut.at
            assert job["metadata"]["uid"] != first[life.job_id]
    finally:
        for life in lives:
            life.end()
        remove_jobs(jobs_lab, job_estate)
