"""What the engine says of pods that could not be made, and of Volcano's that wait."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.adapters.job_engines.documents import PLACE_SECONDS
from helpers.adapters.job_engines.engine import JobObjects
from helpers.adapters.job_engines.volcano import VolcanoEngine
from helpers.domain.errors import Forbidden
from helpers.domain.jobs.observation import JobObservation, Phase
from helpers.ports.cluster import ObjectRef
from tests.fakes.outside import FakeClock, FakeEvents, FakeLog
from tests.unit.test_job_checkpoints import Seen
from tests.unit.test_job_documents import settings

UID = {"batch.kubernetes.io/controller-uid": "u"}


class Told:
    """Events as the API server has them."""

    def __init__(self, *messages: str, refused: Forbidden | None = None) -> None:
        self.messages, self.refused, self.asked = messages, refused, ""

    def list(self, ref: ObjectRef, *, field_selector: str = "", label_selector: str = "") -> list[dict[str, Any]]:
        self.asked = f"{ref} {field_selector}"
        if self.refused is not None:
            raise self.refused
        return [{"message": text, "lastTimestamp": f"2026-06-02T11:0{n}:00Z"} for n, text in enumerate(self.messages)]


def world(cluster: Told, *pods: dict[str, Any], log: FakeLog | None = None) -> JobObjects:
    """One Job that was let go long ago, with those pods."""
    found = JobObjects(settings(), cluster, FakeEvents(), FakeClock(), log or FakeLog())  # type: ignore[arg-type]
    metadata = {"name": "gpu-job-1", "namespace": "vision", "uid": "u", "labels": {"gpumem.io/job": "gpu-job-1"}}
    status = {"startTime": "2026-06-02T11:00:00Z", "active": len(pods)}
    spec = {"suspend": False, "parallelism": 2}
    found.jobs = Seen({"metadata": metadata, "spec": spec, "status": status})  # type: ignore[assignment]
    found.pods = Seen(*pods)  # type: ignore[assignment]
    return found


def pod(node: str = "", phase: str = "Pending") -> dict[str, Any]:
    waits = {"type": "PodScheduled", "status": "False", "lastTransitionTime": "2026-06-02T11:00:00Z", "message": "full"}
    metadata = {"name": "x", "namespace": "vision", "uid": "p", "labels": UID}
    status = {"phase": phase, "conditions": [] if node else [waits]}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": status}


UNMADE = f"2 of its 2 pods could not be made for {PLACE_SECONDS} s"


@pytest.mark.parametrize(
    ("said", "phase", "text"),
    [
        (["old", "failed quota: q: must specify requests.cpu"], Phase.FAILED, "failed quota: q: must specify"),
        (["pods x is forbidden: exceeded quota: q"], Phase.PREEMPTED, "exceeded quota: q"),
        ([], Phase.FAILED, "no Event says why"),
    ],
)
def test_the_api_servers_last_words_say_whether_a_job_may_be_tried_again(
    said: list[str], phase: Phase, text: str
) -> None:
    cluster = Told(*said)
    seen = world(cluster).observe()["gpu-job-1"]
    assert (seen.phase, seen.hopeless) == (phase, phase is Phase.FAILED)
    assert seen.reason.startswith(f"{UNMADE}: ")
    assert text in seen.reason
    assert cluster.asked == "Event vision/ involvedObject.uid=u,reason=FailedCreate"


def test_who_may_not_read_events_gives_the_cards_back_all_the_same() -> None:
    log = FakeLog()
    seen = world(Told(refused=Forbidden("403")), log=log).observe()["gpu-job-1"]
    assert (seen.phase, seen.reason) == (Phase.FAILED, f"{UNMADE}: no Event says why")
    assert [line["reason"] for line in log.of("events_not_read")] == ["403"]


def test_events_are_read_for_nobody_else() -> None:
    cluster = Told()
    assert world(cluster, pod(), pod()).observe()["gpu-job-1"].phase is Phase.PREEMPTED
    assert cluster.asked == ""


@pytest.mark.parametrize(
    ("pods", "phase"),
    [([], Phase.HELD), ([pod(), pod()], Phase.HELD), ([pod("a"), pod()], Phase.STARTING)],
)
def test_in_volcanos_queue_a_job_waits_as_long_as_it_takes(pods: list[dict[str, Any]], phase: Phase) -> None:
    found: JobObservation = VolcanoEngine(settings(), world(Told(), *pods)).observe()["gpu-job-1"]
    assert found.phase is phase
