"""What the stand-in answers, as values; written as its state file (the format stands in the C source)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lab.errors import LabInputError

ProcessList = Literal["C", "G", "M"]
STATE_VARIABLE = "FAKE_NVML_STATE"
FOR_EVER = -1
_NOT_AVAILABLE = "na"


@dataclass(frozen=True)
class FakeProcess:
    """A row of a process list: C compute, G graphics, M MPS. None: the driver cannot say how much."""

    pid: int
    used_bytes: int | None
    kind: ProcessList = "C"


@dataclass(frozen=True)
class FakeMig:
    """A MIG device; its memory is its own."""

    uuid: str
    total_bytes: int
    used_bytes: int = 0
    reserved_bytes: int = 0
    processes: tuple[FakeProcess, ...] = ()
    name: str = ""

    @property
    def free_bytes(self) -> int:
        """What is left of the total, not less than nothing."""
        return max(0, self.total_bytes - self.reserved_bytes - self.used_bytes)


@dataclass(frozen=True)
class FakeGpu:
    """A card. `used_bytes` is without the reserved part; None is what a driver that cannot say answers."""

    uuid: str
    total_bytes: int
    used_bytes: int | None = 0
    reserved_bytes: int = 0
    model: str = "Simulated GPU"
    utilization_percent: int | None = 0
    temperature_celsius: int | None = 40
    power_milliwatts: int | None = 30_000
    ecc: tuple[int, int] | None = None
    processes: tuple[FakeProcess, ...] = ()
    migs: tuple[FakeMig, ...] = ()
    xids: tuple[int, ...] = ()
    limits: Mapping[str, tuple[int, int | None, int]] = field(default_factory=dict)
    """`{cgroup path: (soft, hard or None for no limit, used)}`, bytes: what a driver from r615 keeps."""

    @property
    def free_bytes(self) -> int | None:
        """What is left of the total, not less than nothing."""
        if self.used_bytes is None:
            return None
        return max(0, self.total_bytes - self.reserved_bytes - self.used_bytes)


@dataclass(frozen=True)
class FakeDriver:
    """The whole stand-in.

    `errors` is `{(function, device): NVML code}` and `delays` `{(function, device): milliseconds}`,
    `FOR_EVER` until the state is written without it; a device is `"0"`, `"0.1"` (MIG) or `"*"`.
    """

    gpus: tuple[FakeGpu, ...]
    version: str = "595.91.07"
    has_memory_limits: bool = False
    errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    delays: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Puts this state in place at once: a call sees the old or the new one, never half of one.

        Raises:
            LabInputError: A uuid holds a blank or is there twice, so that it would be read wrongly.
        """
        uuids = [gpu.uuid for gpu in self.gpus] + [mig.uuid for gpu in self.gpus for mig in gpu.migs]
        if len(set(uuids)) != len(uuids) or any(len(uuid.split()) != 1 for uuid in uuids):
            raise LabInputError(f"GPU uuids must be different from each other and without blanks: {uuids}")
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        scratch.write_text("\n".join(self._lines()) + "\n")
        scratch.replace(path)

    def _lines(self) -> list[str]:
        lines = [f"driver {self.version}"]
        lines += ["limits on"] if self.has_memory_limits else []
        for index, gpu in enumerate(self.gpus):
            lines += _gpu_lines(index, gpu)
        lines += [f"error {function} {device} {code}" for (function, device), code in self.errors.items()]
        lines += [f"delay {function} {device} {span}" for (function, device), span in self.delays.items()]
        return lines


def _gpu_lines(index: int, gpu: FakeGpu) -> list[str]:
    sizes = (gpu.total_bytes, gpu.reserved_bytes, gpu.used_bytes, gpu.free_bytes)
    lines = [f"gpu {index} {gpu.uuid} {_texts(*sizes)} {gpu.model}"]
    lines.append(f"sensors {index} {_texts(gpu.utilization_percent, gpu.temperature_celsius, gpu.power_milliwatts)}")
    if gpu.ecc is not None:
        lines.append(f"ecc {index} {_texts(*gpu.ecc)}")
    lines += _process_lines(str(index), gpu.processes)
    for number, mig in enumerate(gpu.migs):
        sizes = (mig.total_bytes, mig.reserved_bytes, mig.used_bytes, mig.free_bytes)
        lines.append(f"mig {index} {number} {mig.uuid} {_texts(*sizes)} {mig.name}".rstrip())
        lines += _process_lines(f"{index}.{number}", mig.processes)
    lines += [f"xid {index} {sequence} {code}" for sequence, code in enumerate(gpu.xids, start=1)]
    for cgroup, (soft, hard, used) in gpu.limits.items():
        lines.append(f"limit {index} {cgroup} {_texts(soft, hard, used)}")
    return lines


def _process_lines(device: str, processes: tuple[FakeProcess, ...]) -> list[str]:
    return [f"proc {device} {one.kind} {one.pid} {_texts(one.used_bytes)}" for one in processes]


def _texts(*amounts: int | None) -> str:
    return " ".join(_NOT_AVAILABLE if amount is None else str(amount) for amount in amounts)
