"""GPU jobs on the lab: the estate for them, its nodes and objects, and a manager in this process.

The API server, its controllers and the scheduler are real, and so are the Jobs and pods; what containers
do is `lab.pod_life`'s, told by variables of theirs. A program that trains for two seconds:

    job(project="vision", gpus=1, seconds=2.0)
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from helpers.adapters.clock import SystemClock
from helpers.adapters.job_engines.engine import JobCluster
from helpers.adapters.kubernetes_ import connect
from helpers.adapters.manager_metrics import PrometheusManagerMetrics
from helpers.adapters.metrics import new_registry
from helpers.adapters.sql_.connection import open_database
from helpers.adapters.sql_.migrate import migrate
from helpers.adapters.sql_.store import SqlJobStore
from helpers.apps.manager import engine_of
from helpers.domain import names
from helpers.domain.estate.model import Estate
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.settings import ManagerSettings, manager_settings
from helpers.domain.jobs.spec import read_spec
from helpers.ports.job_engine import JobEngine
from helpers.ports.job_store import JobStore
from helpers.ports.leadership import Leadership
from helpers.ports.log import Log
from helpers.rendering.estate_file import load_estate
from helpers.rendering.objects import RenderedObject
from helpers.rendering.render import render
from helpers.services.manager_jobs import JobDesk
from helpers.services.manager_loop import ManagerLoop, ManagerPorts
from helpers.services.manager_money import Purse
from lab.cluster import Lab
from lab.errors import LabError
from lab.estate_nodes import nodes_of_estate
from lab.state import LabNode
from lab.waiting import BOUND_SECONDS

ESTATE_FILE = Path(__file__).with_name("jobs_estate.yaml")
_STOOD_ON = ("Namespace", "PriorityClass", "RuntimeClass", "ResourceQuota", "Role", "RoleBinding")
# Between two turns: what a Job's controller and the scheduler need anyway.
BETWEEN_SECONDS = 0.1


def jobs_estate() -> Estate:
    """The estate that this folder has for jobs."""
    return load_estate(ESTATE_FILE)[0]


def job_nodes(estate: Estate) -> list[LabNode]:
    """Its nodes, on which pods live, and which advertise their MiB already; cards in MIG instances as those."""
    advertised = {node.name: node.advertised_mib for node in estate.nodes}
    settings = manager_settings(estate)
    instances = {
        place.name: {place.resource: place.machine_amount}
        for place in (settings.places if settings else ())
        if place.kind == "mig"
    }
    found = []
    for one in nodes_of_estate(estate, "bare"):
        entry = _entry(one.name, estate)
        cards = instances.get(entry, one.extended_resources)
        found.append(LabNode(one.name, one.labels, cards | {estate.resource: advertised[entry]}, "bare"))
    return found


def _entry(name: str, estate: Estate) -> str:
    return max((node.name for node in estate.nodes if name.startswith(node.name)), key=len)


def apply_job_platform(lab: Lab, estate: Estate) -> None:
    """What jobs stand on: namespaces, priority classes, quotas."""
    cluster = connect(lab.kubeconfig)
    for item in render(estate).objects:
        if (
            isinstance(item, RenderedObject)
            and item.kind in _STOOD_ON
            and "gpumem-" not in item.manifest["metadata"]["name"]
        ):
            cluster.apply(item.manifest, field_manager=names.FIELD_MANAGER_TERRAFORM)


def document(
    project: str = "vision",
    *,
    gpu: str = "A100",
    memory_gb: int | None = 80,
    gpus: int = 1,
    seconds: float | None = 1.0,
    exit_code: int = 0,
    log: str = "",
    **changes: Any,
) -> dict[str, Any]:
    """A request for a job that runs so long; `seconds` None: until it is ended."""
    env = {} if seconds is None else {"LAB_EXIT_AFTER_SECONDS": str(seconds), "LAB_EXIT_CODE": str(exit_code)}
    env |= {"LAB_LOG": log} if log else {}
    asked: dict[str, Any] = {"gpu_type": gpu, "gpu_count": gpus}
    asked |= {"gpu_memory_gb": memory_gb} if memory_gb else {}
    base = {
        "job_name": "train",
        "project_id": project,
        "gpu_requirements": asked,
        "container": {"image": "registry.example.com/train:1", "env": env},
    }
    return base | changes


class AlwaysLeads:
    """One process alone."""

    def leads(self) -> bool:
        """It does."""
        return True


class LabManager:
    """Desk and loop over one database and one lab; `turn` is the leader's. `engine` may be wrapped by a test."""

    def __init__(
        self,
        settings: ManagerSettings,
        engine: JobEngine,
        url: str,
        log: Log,
        leadership: Leadership | None = None,
        wrap_store: Callable[[JobStore], JobStore] | None = None,
    ) -> None:
        self.settings, self.engine, self.log = settings, engine, log
        self.clock = SystemClock()
        self._database = open_database(url)
        migrate(self._database)
        store: JobStore = SqlJobStore(self._database)
        self.store = wrap_store(store) if wrap_store is not None else store
        self.metrics = PrometheusManagerMetrics(new_registry(names.MANAGER_COMPONENT, "lab"))
        purse = Purse(settings.prices, settings.physical_mib())
        self.desk = JobDesk(self.store, engine, settings, purse, self.clock)
        ports = ManagerPorts(self.store, engine, leadership or AlwaysLeads(), self.metrics, self.clock, log)
        self.loop = ManagerLoop(ports, settings, purse, lambda: False)

    def submit(self, **asked: Any) -> str:
        """Submits a job; its id."""
        return self.submit_document(document(**asked))

    def submit_document(self, body: dict[str, Any]) -> str:
        """Submits a request; the job's id."""
        return self.desk.submit(read_spec(body), "alice").job.job_id

    def job(self, job_id: str) -> Job:
        """The job as it is kept."""
        found = self.store.job(job_id)
        if found is None:
            raise LabError(f"there is no job {job_id}")
        return found

    def statuses(self, *job_ids: str) -> list[str]:
        """Their states."""
        found = self.store.jobs(job_ids)
        return [found[job_id].status.value for job_id in job_ids]

    def history(self, job_id: str) -> list[str]:
        """What happened to it, in words."""
        projects = [one.name for one in self.settings.projects]
        found = self.store.events(projects, job_id=job_id, after_sequence=0, limit=500)
        return [event.kind for event in found]

    def until(self, reached: Callable[[], bool], bound_seconds: float = BOUND_SECONDS) -> None:
        """Turns until that is so; LabError where it does not come."""
        end_seconds = time.monotonic() + bound_seconds
        while not reached():
            if time.monotonic() > end_seconds:
                raise LabError(f"not reached after {bound_seconds:.0f} s; jobs: {self._shown()}")
            self.loop.turn()
            time.sleep(BETWEEN_SECONDS)

    def until_over(self, *job_ids: str, bound_seconds: float = BOUND_SECONDS) -> None:
        """Turns until they are over."""
        self.until(lambda: all(one.is_final for one in self.store.jobs(job_ids).values()), bound_seconds)

    def close(self) -> None:
        """Lets the database go."""
        self._database.dispose()

    def _shown(self) -> str:
        return ", ".join(f"{job.job_id} {job.status} ({job.reason})" for job in self.store.unfinished()[:5])


@contextlib.contextmanager
def lab_manager(
    lab: Lab, settings: ManagerSettings, url: str, log: Log, *, cluster: JobCluster | None = None,
    dry_run: bool = False, **options: Any
) -> Iterator[LabManager]:  # fmt: skip
    """A manager whose watches end with the context."""
    with engine_of(settings, cluster or connect(lab.kubeconfig), log, dry_run=dry_run) as engine:
        manager = LabManager(settings, engine, url, log, **options)
        try:
            yield manager
        finally:
            manager.close()


def settings_of(estate: Estate) -> ManagerSettings:
    """The manager's settings; every estate here has some."""
    found = manager_settings(estate)
    if found is None:
        raise LabError("the estate has no manager")
    return found
