"""The coordinator has exactly the rights it needs: without any one of them something stops, and says so."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from helpers.domain import names
from helpers.domain.estate.coordinator import Engine, Redis
from helpers.domain.estate.watchdog import ReleaseHook
from helpers.domain.lanes.rights import coordinator_rights
from helpers.domain.lanes.settings import CoordinatorSettings, EngineRule, HookRule
from helpers.domain.rights import Scope
from lab.api import Api, ApiError
from lab.cluster import Lab
from lab.incident import deployment, t4_node
from lab.ollama import StandInOllama, stand_in_ollama
from lab.queues.coordinators import CoordinatorProcess, InCluster
from lab.redis_server import redis_server
from lab.rights import grant_rights
from lab.waiting import wait_for
from tests.fakes.lanes import rule, settings
from tests.queues.conftest import why_not

WHY_NOT = why_not()
pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]

TENANTS, NODE, LABEL = "yielders", "coordinated", {"gpumem-test-ready": "yes"}
HOOK = HookRule(
    tenant="ollama",
    namespace=TENANTS,
    kind="Deployment",
    workload="ollama",
    container="main",
    hook=ReleaseHook(port=8080, path="/yield", remeasure_seconds=1),
)
ENGINE = EngineRule(
    engine=Engine(tenant="ollama", ollama_url="http://127.0.0.1:1", away_after_seconds=2),
    node=NODE,
    node_labels=LABEL,
)
CHOSEN = (rule("realtime", "realtime"), rule("batch", on_realtime="yield"))
RIGHTS = coordinator_rights(settings(*CHOSEN, hooks=(HOOK,), engines=(ENGINE,)))
VERBS = sorted({f"{verb} {right.resource}" for right in RIGHTS for verb in right.verbs})


class Scene:
    """A tenant's pod and a node on the lab, and a Redis in which batch still runs as realtime comes."""

    def __init__(self, lab: Lab, url: str, ollama_url: str) -> None:
        self.lab = lab
        engine = ENGINE.model_copy(update={"engine": ENGINE.engine.model_copy(update={"ollama_url": ollama_url})})
        self.settings: CoordinatorSettings = settings(
            *CHOSEN, redis=Redis(url=url), hooks=(HOOK,), engines=(engine,), poll_seconds=0.2
        )
        self.client: redis.Redis = redis.Redis.from_url(url, decode_responses=True)

    @property
    def api(self) -> Api:
        return self.lab.api()

    def node_is(self, status: str) -> None:
        # With a beat: the node controller calls a node Unknown 50 s after the last one that it saw.
        beat = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        condition = {"type": "Ready", "status": status, "reason": "AsTheTestSays", "lastHeartbeatTime": beat}
        self.api.patch(f"/api/v1/nodes/{NODE}/status", {"status": {"conditions": [condition]}})

    def batch_runs_as_realtime_comes(self) -> None:
        for queue in ("ai-realtime", "ai-batch"):
            self.client.hset(f"bull:{queue}:meta", "version", "bullmq:5.81.5")
            self.client.rpush(f"bull:{queue}:active", "1")

    def grant(self, home: str, without: str = "") -> InCluster:
        with contextlib.suppress(ApiError):
            self.api.post("/api/v1/namespaces", {"metadata": {"name": home}})
        places: list[tuple[Scope, str]] = [("cluster", ""), ("namespace", home), ("tenants", TENANTS)]
        account = names.COORDINATOR_COMPONENT
        return InCluster(grant_rights(self.lab, home, account, RIGHTS, places, without=without), home)

    def give_up_the_lease(self, home: str) -> None:
        """One is there: then reading and patching it is what is needed."""
        self.api.post(
            f"/apis/coordination.k8s.io/v1/namespaces/{home}/leases",
            {
                "metadata": {"name": names.COORDINATOR_COMPONENT},
                "spec": {"holderIdentity": "", "leaseDurationSeconds": 1},
            },
        )

    def events(self) -> list[dict[str, Any]]:
        found = self.api.get(f"/api/v1/namespaces/{TENANTS}/events")["items"]
        return [event for event in found if event["reason"] == "AskedToYield"]


@pytest.fixture(scope="module")
def world(lab: Lab) -> Iterator[Lab]:
    """The tenant's pod, and a node whose readiness is the test's to say."""
    machine = "coordinator-rights"
    lab.node_add(t4_node(machine))
    with ExitStack() as stack:
        stack.callback(lab.node_remove, machine)
        api = lab.api()
        api.post("/api/v1/nodes", {"metadata": {"name": NODE, "labels": LABEL}})
        stack.callback(lambda: lab.api().delete(f"/api/v1/nodes/{NODE}"))
        api.post("/api/v1/namespaces", {"metadata": {"name": TENANTS}})
        stack.callback(lambda: lab.api().delete(f"/api/v1/namespaces/{TENANTS}"))
        wait_for(lambda: api.get(f"/api/v1/namespaces/{TENANTS}/serviceaccounts")["items"])
        api.post(f"/apis/apps/v1/namespaces/{TENANTS}/deployments", deployment(TENANTS, "ollama", machine))
        pods = f"/api/v1/namespaces/{TENANTS}/pods"
        wait_for(lambda: [p for p in api.get(pods)["items"] if p["status"].get("phase") == "Running"])
        yield lab


@pytest.fixture
def scene(world: Lab, tmp_path: Path) -> Iterator[Scene]:
    with redis_server(tmp_path / "redis", durable=False) as server, stand_in_ollama(StandInOllama({})) as ollama:
        one = Scene(world, server.url, ollama.url)
        one.node_is("True")
        yield one
        one.client.close()


@contextlib.contextmanager
def running(scene: Scene, cluster: InCluster, folder: Path) -> Iterator[CoordinatorProcess]:
    process = CoordinatorProcess(scene.settings, folder, cluster=cluster)
    try:
        yield process
    finally:
        process.kill()


def ends_with(process: CoordinatorProcess, words: str) -> bool:
    """Whether it ended by itself and said which permission it lacks."""
    code = process.process.wait(40)
    (failed,) = wait_for(lambda: process.of("run_failed"))
    return code == 1 and "cannot" in failed["reason"] and words in failed["reason"]


def test_with_exactly_its_rights_it_leads_asks_and_sees_the_node(scene: Scene, tmp_path: Path) -> None:
    before = len(scene.events())
    with running(scene, scene.grant("coordinator-all"), tmp_path) as process:
        wait_for(lambda: process.of("leadership_won"))
        scene.node_is("True")
        scene.batch_runs_as_realtime_comes()
        (asked,) = wait_for(lambda: process.of("yield_asked"))
        assert asked["answered"] is True, asked
        assert asked["namespace"] == TENANTS
        wait_for(lambda: len(scene.events()) == before + 1)
        # The pod said yes, and its job is none that a stand-in could end: batch is waited for.
        assert wait_for(lambda: process.of("yield_without_effect"))[0]["active_count"] == 1
        scene.node_is("Unknown")
        (away,) = wait_for(lambda: process.of("fallback_began"))
        assert f"node {NODE} is NotReady (AsTheTestSays)" in away["reason"]
        wait_for(lambda: json.loads(str(scene.client.get("gpumem:status") or "{}")).get("available") is False)
        scene.node_is("True")
        wait_for(lambda: process.of("fallback_ended"))
        assert len(process.of("yield_asked")) == 1, "one burst, one question"


@pytest.mark.parametrize("verb", VERBS)
def test_each_right_is_needed(verb: str, scene: Scene, tmp_path: Path) -> None:
    home = f"coordinator-{verb.replace(' ', '-')}"
    cluster = scene.grant(home, without=verb)
    if verb in ("get leases", "patch leases"):
        scene.give_up_the_lease(home)
    with running(scene, cluster, tmp_path) as process:
        if "leases" in verb:
            assert ends_with(process, "leases")
        elif verb == "list nodes":
            assert ends_with(process, "nodes")
        else:
            wait_for(lambda: process.of("leadership_won"))
            scene.batch_runs_as_realtime_comes()
            said = {"list pods": "yield_failed", "create events": "event_not_written"}[verb]
            (line,) = wait_for(lambda: process.of(said))
            assert verb.split()[1] in line["reason"]
            assert "cannot" in line["reason"]


def test_the_rights_are_no_more_than_what_is_declared_needs() -> None:
    text = json.dumps([right.rule() for right in RIGHTS])
    assert not [word for word in ("delete", "exec", "secrets", "*", "update") if word in text]
    plain = [right.resource for right in coordinator_rights(settings())]
    assert plain == ["leases", "leases"], "without engines and hooks it may lead, and nothing else"
