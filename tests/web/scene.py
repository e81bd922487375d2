"""The page as a person has it: the manager's API over real HTTP, with a cluster and a past."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from helpers.domain.estate.manager import Project
from helpers.domain.jobs.gpus import Pool
from helpers.domain.jobs.observation import JobObservation, Phase
from helpers.domain.jobs.settings import ManagerSettings
from helpers.services.manager_cards import KEPT_SECONDS, CardBoard
from tests.fakes.cluster import FakeCluster
from tests.fakes.jobs import A100
from tests.fakes.manager import SETTINGS
from tests.manager.scene import ALL, Scene

WEB_SETTINGS: ManagerSettings = SETTINGS.model_copy(
    update={
        "projects": (
            Project(name="vision", gpu_quota_count=16, budget_usd_per_month=Decimal(500)),
            Project(name="text", weight=2.0, budget_usd_per_month=Decimal(4000)),
            Project(name="ml-research"),
        )
    }
)
T4 = Pool("T4", 16)
SHARED_T4 = Pool("T4", 16, "shared")
SMALL = {"gpu_type": "T4", "gpu_memory_mib": 6000}
HOUR = 3600.0


class WebScene(Scene):
    """alice may do all in `vision` and `text`; `ml-research` is other people's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, settings=WEB_SETTINGS)
        self.callers.allowed |= {("alice", verb, "text") for verb in ALL}
        self.url = ""
        self.cluster = FakeCluster()
        for name, product, cards in (("a100-1", "NVIDIA-A100-SXM4-80GB", 8), ("t4-1", "Tesla-T4", 2)):
            labels = {"nvidia.com/gpu.product": product, "nvidia.com/gpu.count": str(cards)}
            self.cluster.add(
                {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": {"name": name, "labels": labels},
                    "status": {"allocatable": {"nvidia.com/gpu": str(cards)}},
                }
            )
        self.bench.engine.pools = {A100: 8, T4: 2, SHARED_T4: 2 * 16384}
        self.world.cards = CardBoard(self.cluster, self.bench.engine, self.bench.board, self.bench.clock)

    def turn(self, seconds: float = KEPT_SECONDS + 1) -> None:
        """One turn of the leader, and one look of the board, so much later: cards that were seen are looked at anew."""
        self.bench.turn(seconds)
        self.bench.board.look()

    def see(self, job_id: str, phase: Phase, *nodes: str, reason: str = "") -> None:
        """The cluster now shows this of the job."""
        self.bench.engine.jobs[job_id] = JobObservation(phase, reason, nodes=nodes)

    def run(self, job_id: str, node: str) -> None:
        """It runs there from now on."""
        self.turn()
        self.turn()
        self.see(job_id, Phase.RUNNING, node)
        self.turn()

    def past(self) -> None:
        """Ten days with a job or two each, of which one failed."""
        for day in range(10):
            for project, gpus, hours in (("vision", 1 + day % 3, 6 + day % 4), ("text", 2, 4 + day % 5)):
                wanted = {"gpu_type": "A100", "gpu_memory_gb": 80, "gpu_count": gpus}
                job_id = self.bench.submit(job_name=f"train-{day}", project_id=project, gpu_requirements=wanted)
                self.run(job_id, "a100-1")
                self.turn(hours * HOUR)
                failed = (day, project) == (6, "text")
                how = Phase.FAILED if failed else Phase.SUCCEEDED
                self.see(job_id, how, "a100-1", reason="exit code 137: out of memory" if failed else "")
                self.turn()
            self.turn(4 * HOUR)

    def present(self) -> dict[str, str]:
        """`{name: job_id}`: some run, some wait."""
        found = {}
        for name, project, wanted, more in (
            ("finetune_llama_7b", "vision", {"gpu_type": "A100", "gpu_memory_gb": 80, "gpu_count": 4}, {}),
            ("embeddings", "text", {"gpu_type": "A100", "gpu_memory_gb": 80, "gpu_count": 2}, {"preemptible": True}),
            ("captions", "vision", SMALL, {}),
            ("ocr", "text", SMALL, {}),
        ):
            found[name] = self.submit_now(name, project, wanted, **more)
            self.run(found[name], "t4-1" if wanted is SMALL else "a100-1")
            self.turn(600)
        found["other"] = self.submit_now("other", "ml-research", {"gpu_type": "A100", "gpu_memory_gb": 80})
        self.run(found["other"], "a100-1")
        for name, priority in (("sweep-1", "high"), ("sweep-2", "medium"), ("sweep-3", "low")):
            wanted = {"gpu_type": "A100", "gpu_memory_gb": 80, "gpu_count": 4}
            found[name] = self.submit_now(name, "text", wanted, priority=priority)
            self.turn(200)
        return found

    def submit_now(self, name: str, project: str, wanted: dict[str, Any], **more: Any) -> str:
        """Submits as alice; its id."""
        job_id = self.bench.submit(job_name=name, project_id=project, gpu_requirements=wanted, **more)
        self.bench.board.look()
        return job_id
