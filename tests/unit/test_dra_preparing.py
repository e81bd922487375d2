"""Preparing on real files: in whichever step the agent ends, nothing is lost and nothing is given twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from helpers.adapters.cdi_files import CdiFolder
from helpers.adapters.dra_checkpoint import CheckpointFile
from helpers.domain.dra.devices import Device
from helpers.domain.dra.prepared import ClaimRef, PreparedClaim
from helpers.domain.errors import ClusterError, Forbidden
from helpers.services.dra_board import NodeBoard
from helpers.services.dra_prepare import PreparePorts, Preparer
from tests.fakes.dra import NODE, UID, FakeDraApi, FakeDraMetrics, claim
from tests.fakes.telemetry import FakeLog

REF = ClaimRef("tenants", "chat", UID)
AWAY = ClusterError("get ResourceClaim: the Kubernetes API does not answer")
CARDS = [Device("gpu-0", "GPU-a", "T4", 0, 14000), Device("gpu-1", "GPU-b", "T4", 1, 14000)]


@dataclass
class Scene:
    """An agent's folders, which outlive any number of agents."""

    folder: Path
    api: FakeDraApi = field(default_factory=FakeDraApi)
    metrics: FakeDraMetrics = field(default_factory=FakeDraMetrics)
    log: FakeLog = field(default_factory=FakeLog)
    board: NodeBoard = field(default_factory=NodeBoard)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.json"

    def agent(self) -> Preparer:
        """A new process: nothing is known but what is on the disk."""
        self.board = NodeBoard()
        self.board.show_devices(CARDS)
        ports = PreparePorts(
            self.api, CheckpointFile(self.checkpoint), CdiFolder(self.folder / "cdi"), self.metrics, self.log
        )
        return Preparer(ports, node_name=NODE, board=self.board)

    def restarted(self) -> Preparer:
        agent = self.agent()
        agent.recover()
        return agent

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "cdi").glob("*"))

    def saved(self) -> list[str]:
        return [one["uid"] for one in json.loads(self.checkpoint.read_text())["claims"]]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path)
    scene.api.put(claim("gpu-1"))
    return scene


FILE = f"gpu.gpumem.io-claim_{UID}.json"


def prepared(agent: Preparer, ref: ClaimRef = REF) -> PreparedClaim:
    done = agent.prepare([ref])[ref.uid]
    assert isinstance(done, PreparedClaim), done
    return done


def test_a_claim_is_prepared_on_disk_before_the_kubelet_hears_of_it(scene: Scene) -> None:
    done = prepared(scene.restarted())
    assert done.uuids() == ("GPU-b",)
    assert (scene.files(), scene.saved()) == ([FILE], [UID])
    assert scene.board.in_use() == {"GPU-b"}
    assert [one.uid for one in scene.metrics.claims] == [UID]


def test_preparing_twice_is_preparing_once(scene: Scene) -> None:
    agent = scene.restarted()
    first, content = prepared(agent), (scene.folder / "cdi" / FILE).read_bytes()
    assert prepared(agent) == first
    assert prepared(scene.restarted()) == first
    assert ((scene.folder / "cdi" / FILE).read_bytes(), scene.saved()) == (content, [UID])


def test_taking_back_leaves_nothing_and_may_be_asked_again(scene: Scene) -> None:
    agent = scene.restarted()
    prepared(agent)
    assert agent.unprepare([REF]) == {UID: ""}
    assert agent.unprepare([REF]) == {UID: ""}
    assert (scene.files(), scene.saved(), scene.board.in_use()) == ([], [], frozenset())


def test_an_unknown_claim_is_taken_back_without_complaint(scene: Scene) -> None:
    assert scene.restarted().unprepare([ClaimRef("ns", "never", "never-seen")]) == {"never-seen": ""}


def test_one_claim_that_is_refused_does_not_hold_up_the_others(scene: Scene) -> None:
    other = ClaimRef("tenants", "gone", "gone-uid")
    answers = scene.restarted().prepare([other, REF])
    assert "claim tenants/gone: there is none" in str(answers["gone-uid"])
    assert isinstance(answers[UID], PreparedClaim)
    assert scene.metrics.errors == ["prepare"]


def test_killed_between_file_and_checkpoint_the_claim_can_be_prepared_or_taken_back(scene: Scene) -> None:
    for finish in ("prepare", "unprepare"):
        agent = scene.restarted()
        CheckpointFile(scene.checkpoint).save(())
        CdiFolder(scene.folder / "cdi").write(prepared(scene.agent()))
        CheckpointFile(scene.checkpoint).save(())  # what stands on the disk at the moment of the kill
        agent = scene.restarted()
        if finish == "prepare":
            prepared(agent)
            assert (scene.files(), scene.saved()) == ([FILE], [UID])
        else:
            assert agent.unprepare([REF]) == {UID: ""}
            assert (scene.files(), scene.saved()) == ([], [])


# For each line that it reads, a new agent that prepares and takes back without end.
AGENTS = """
import os, sys
from pathlib import Path
from tests.unit.test_dra_preparing import REF, Scene, claim
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        scene = Scene(Path(sys.argv[1]))
        scene.api.put(claim("gpu-1"))
        agent = scene.restarted()
        while True:
            agent.prepare([REF])
            agent.unprepare([REF])
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("gone", flush=True)
"""


def test_killed_at_any_instant_the_disk_holds_one_of_the_two_states(scene: Scene) -> None:
    instants, seen = random.Random(1), set()  # noqa: S311 - no secret
    command = [sys.executable, "-c", AGENTS, str(scene.folder)]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as agents:
        assert agents.stdin is not None
        assert agents.stdout is not None
        for _ in range(10):
            print("go", file=agents.stdin, flush=True)
            pid = int(agents.stdout.readline())
            time.sleep(instants.uniform(0.01, 0.1))
            os.kill(pid, signal.SIGKILL)
            assert agents.stdout.readline() == "gone\n"
            if scene.checkpoint.exists():
                seen.add((tuple(scene.saved()), FILE in scene.files()))
            agent = scene.agent()
            assert agent.recover() == "", "a crash corrupts nothing"
            assert scene.metrics.errors == []
            prepared(agent)
            assert agent.unprepare([REF]) == {UID: ""}
            assert FILE not in scene.files()
    assert seen <= {((), False), ((), True), ((UID,), True)}, "no entry is without its file"


def test_files_that_a_reboot_took_are_written_again(scene: Scene) -> None:
    prepared(scene.restarted())
    content = (scene.folder / "cdi" / FILE).read_bytes()
    (scene.folder / "cdi" / FILE).unlink()
    scene.restarted()
    assert (scene.folder / "cdi" / FILE).read_bytes() == content


def test_without_the_api_server_what_was_prepared_stays_prepared(scene: Scene) -> None:
    done = prepared(scene.restarted())
    scene.api.away = AWAY
    assert prepared(scene.restarted()) == done


def test_without_the_api_server_nothing_new_is_prepared(scene: Scene) -> None:
    scene.api.away = AWAY
    assert scene.restarted().prepare([REF]) == {UID: str(AWAY)}
    assert scene.files() == []


def test_a_missing_right_is_not_taken_for_an_api_server_that_is_away(scene: Scene) -> None:
    agent = scene.restarted()
    prepared(agent)
    scene.api.away = Forbidden("cannot get resource resourceclaims")
    assert agent.prepare([REF]) == {UID: "cannot get resource resourceclaims"}


def test_a_claim_that_was_allocated_anew_gets_its_new_card(scene: Scene) -> None:
    agent = scene.restarted()
    prepared(agent)
    scene.api.put(claim("gpu-0"))
    assert prepared(agent).uuids() == ("GPU-a",)
    assert b"GPU-a" in (scene.folder / "cdi" / FILE).read_bytes()


def damaged(content: bytes) -> list[bytes]:
    document: dict[str, Any] = json.loads(content)
    document["claims"][0]["grants"][0]["uuid"] = "GPU-x"
    newer = json.loads(content) | {"version": 2}
    return [b"", content[:-40], b"null", b"\x00" * 64, json.dumps(document).encode(), json.dumps(newer).encode()]


@pytest.mark.parametrize("number", range(6))
def test_a_corrupted_checkpoint_is_rebuilt_and_kept_aside(scene: Scene, number: int) -> None:
    done = prepared(scene.restarted())
    broken = damaged(scene.checkpoint.read_bytes())[number]
    scene.checkpoint.write_bytes(broken)
    agent = scene.agent()
    assert "checkpoint.json.corrupt-" in agent.recover()
    assert (scene.saved(), scene.board.in_use(), scene.metrics.errors) == ([UID], frozenset({"GPU-b"}), ["checkpoint"])
    assert [path.read_bytes() for path in scene.folder.glob("checkpoint.json.corrupt-*")] == [broken]
    assert prepared(agent) == done
    assert scene.restarted().recover() == "", "what was rebuilt is whole"


def test_a_checkpoint_that_is_gone_is_rebuilt_too(scene: Scene) -> None:
    prepared(scene.restarted())
    scene.checkpoint.unlink()
    assert scene.agent().recover() == "there is no checkpoint, though CDI files are there"
    assert scene.saved() == [UID]


def test_what_is_rebuilt_is_all_that_was_there(scene: Scene) -> None:
    prepared(scene.restarted())
    content = scene.checkpoint.read_text()
    scene.checkpoint.write_bytes(b"{")
    scene.restarted()
    assert scene.checkpoint.read_text() == content


def test_a_rebuild_without_the_api_server_trusts_the_files_until_the_kubelet_asks(scene: Scene) -> None:
    done = prepared(scene.restarted())
    scene.checkpoint.write_bytes(b"{")
    scene.api.away = AWAY
    agent = scene.restarted()
    assert scene.board.in_use() == {"GPU-b"}
    assert agent.prepare([REF]) == {UID: str(AWAY)}, "the file does not tell which device it was"
    scene.api.away = None
    assert prepared(agent) == done


@pytest.mark.parametrize("now", [None, claim("gpu-0", uid="another-uid")])
def test_a_claim_that_went_while_no_agent_ran_is_taken_back_at_the_start(scene: Scene, now: Any) -> None:
    prepared(scene.restarted())
    scene.api.objects.clear()
    if now is not None:
        scene.api.put(now)
    scene.restarted()
    assert (scene.files(), scene.saved(), scene.board.in_use()) == ([], [], frozenset())


def test_a_file_of_ours_that_cannot_be_read_is_said_and_others_are_left_alone(scene: Scene) -> None:
    prepared(scene.restarted())
    (scene.folder / "cdi" / "gpu.gpumem.io-claim_broken.json").write_text("{")
    (scene.folder / "cdi" / "k8s.gpu.nvidia.com-claim.json").write_text("not ours")
    scene.restarted()
    assert scene.metrics.errors == ["cdi"]
    assert (scene.folder / "cdi" / "k8s.gpu.nvidia.com-claim.json").read_text() == "not ours"


def test_where_the_disk_is_full_the_claim_is_not_prepared(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    agent = scene.restarted()
    monkeypatch.setattr(CheckpointFile, "save", full)
    assert "No space left" in str(agent.prepare([REF])[UID])
    assert scene.board.in_use() == frozenset()
    monkeypatch.undo()
    prepared(agent)
    monkeypatch.setattr(CheckpointFile, "save", full)
    assert "No space left" in agent.unprepare([REF])[UID]
    assert (scene.files(), scene.board.in_use()) == ([FILE], frozenset({"GPU-b"})), "still prepared, file and all"
