"""Spark with RAPIDS: the configuration of executors that use a whole card or MiB of a shared one.

    conf = SparkRapids(executors=4, cores=4, project_id="analytics", image="registry.example.com/spark-rapids:1")
    builder = SparkSession.builder.appName("gpu-etl")
    for key, value in conf.settings().items():
        builder = builder.config(key, value)

`executor_pod_template()` is a document for a file; `spark.kubernetes.executor.podTemplateFile` names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Any

from helpers.domain.errors import Problem
from helpers.domain.jobs.gpus import SOLD_SIZES_GB, mib_of_gb
from helpers.domain.quantity import Quantity
from helpers.sdk.gpu_wire import JobRefused

# Where the RAPIDS image has Spark's script that prints the executor's GPUs.
DISCOVERY_SCRIPT = "/opt/sparkRapidsPlugin/getGpusResources.sh"
TEMPLATE_PATH = "/etc/spark/gpu-executor.yaml"
# RAPIDS' own default of spark.rapids.memory.gpu.reserve: what the context and libraries take beside the pool.
RESERVE_MIB = 640
_GPU = "nvidia.com/gpu"
_RATIO_STEP = Decimal("0.000001")


@dataclass(frozen=True)
class SparkRapids:
    """How many executors, and what each has.

    Attributes:
        image: The executors' image, with Spark and RAPIDS.
        project_id: The namespace; its quota holds for the executors.
        gpu_type, gpu_memory_gb: The card, where the pool must fit into a part of it. Of a card that only the
            estate knows both are told.
        executors: How many; with `most_executors` Spark itself goes up to that and down again.
        cores: Of each executor; so many tasks share its GPU.
        gpu_memory_mib: MiB of a shared card for each executor; `mib_resource` counts them. Absent: a whole card.
        concurrent_gpu_tasks: Tasks that may be on the GPU at the same time.
        executor_memory: Main memory of each executor, as Spark writes it.
    """

    image: str
    project_id: str
    gpu_type: str = "T4"
    gpu_memory_gb: int | None = None
    executors: int = 1
    most_executors: int | None = None
    cores: int = 4
    gpu_memory_mib: int | None = None
    mib_resource: str = ""
    concurrent_gpu_tasks: int = 2
    executor_memory: str = "16g"

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise JobRefused(None, problems)

    def settings(self) -> dict[str, str]:
        """Spark's properties."""
        found = {
            "spark.plugins": "com.nvidia.spark.SQLPlugin",
            "spark.rapids.sql.enabled": "true",
            "spark.rapids.sql.concurrentGpuTasks": str(self.concurrent_gpu_tasks),
            "spark.executor.cores": str(self.cores),
            "spark.executor.memory": self.executor_memory,
            "spark.executor.instances": str(self.executors),
            "spark.executor.resource.gpu.amount": "1",
            "spark.executor.resource.gpu.vendor": "nvidia.com",
            "spark.executor.resource.gpu.discoveryScript": DISCOVERY_SCRIPT,
            "spark.task.resource.gpu.amount": _ratio_text(1, self.cores),
            "spark.kubernetes.namespace": self.project_id,
            "spark.kubernetes.container.image": self.image,
            "spark.kubernetes.executor.podTemplateFile": TEMPLATE_PATH,
        }
        if self.gpu_memory_mib is not None:
            # Of all the card's memory, as RAPIDS counts it; the smallest pool must not be above the largest.
            found["spark.rapids.memory.gpu.maxAllocFraction"] = self._pool_ratio()
            found["spark.rapids.memory.gpu.allocFraction"] = self._pool_ratio()
            found["spark.rapids.memory.gpu.minAllocFraction"] = "0"
        if self.most_executors is not None:
            # Without an external shuffle service, which Spark on Kubernetes does not have.
            found["spark.dynamicAllocation.enabled"] = "true"
            found["spark.dynamicAllocation.shuffleTracking.enabled"] = "true"
            found["spark.dynamicAllocation.minExecutors"] = str(self.executors)
            found["spark.dynamicAllocation.maxExecutors"] = str(self.most_executors)
        return found

    def executor_pod_template(self) -> dict[str, Any]:
        """What Spark's properties cannot say: MiB of a shared card, and the taint of GPU nodes."""
        container: dict[str, Any] = {"name": "executor"}
        if self.gpu_memory_mib is not None:
            amount = {self.mib_resource: Quantity.parse(str(self.gpu_memory_mib)).canonical()}
            container["resources"] = {"limits": amount, "requests": dict(amount)}
        tolerations = [{"key": _GPU, "operator": "Exists", "effect": "NoSchedule"}]
        return {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [container], "tolerations": tolerations}}

    @property
    def _physical_mib(self) -> int:
        return mib_of_gb(self.gpu_memory_gb or SOLD_SIZES_GB[self.gpu_type][0])

    def _pool_ratio(self) -> str:
        return _ratio_text((self.gpu_memory_mib or 0) - RESERVE_MIB, self._physical_mib)

    def _problems(self) -> list[Problem]:
        if self.gpu_type not in SOLD_SIZES_GB and self.gpu_memory_mib is not None and self.gpu_memory_gb is None:
            rule = f"a card whose size is known: {', '.join(sorted(SOLD_SIZES_GB))}"
            return [Problem("gpu_type", self.gpu_type, rule, "set gpu_memory_gb, the card's memory as it is sold")]
        counts = {place: getattr(self, place) for place in ("executors", "cores", "concurrent_gpu_tasks")}
        found = [
            Problem(place, str(count), "at least 1", f"raise {place}") for place, count in counts.items() if count < 1
        ]
        if self.most_executors is not None and self.most_executors < self.executors:
            rule = f"at least executors ({self.executors})"
            found.append(Problem("most_executors", str(self.most_executors), rule, "raise it, or leave it out"))
        if self.gpu_memory_mib is not None:
            if not self.mib_resource:
                rule = "the estate's key `resource`, which counts MiB"
                found.append(Problem("mib_resource", "", rule, "set it, or leave gpu_memory_mib out"))
            if not RESERVE_MIB < self.gpu_memory_mib < self._physical_mib:
                rule = f"more than RAPIDS' own {RESERVE_MIB} MiB, and less than the card's {self._physical_mib} MiB"
                found.append(Problem("gpu_memory_mib", str(self.gpu_memory_mib), rule, "choose a budget between"))
        return found


def _ratio_text(part: int, whole: int) -> str:
    """Rounded down: tasks must fit on their GPU, and a pool into its budget."""
    return f"{(Decimal(part) / Decimal(whole)).quantize(_RATIO_STEP, rounding=ROUND_DOWN):f}"
