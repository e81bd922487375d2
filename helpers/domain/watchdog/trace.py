"""A recorded trace: what the watchdog saw, look by look, as JSON Lines.

One line is one look: `at`, `samples` (GpuSample fields) and `pods` (PodFacts fields); a line
without `pods` has those of the line before. Instants are RFC 3339 texts with an offset, or seconds
since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import AwareDatetime, BaseModel, ConfigDict, TypeAdapter, ValidationError

from helpers.domain.errors import InputError
from helpers.domain.watchdog.facts import GpuSample, PodFacts


@dataclass(frozen=True, slots=True)
class Frame:
    """One look at all cards: the watchdog's clock, the last samples, the pods."""

    at: AwareDatetime
    samples: tuple[GpuSample, ...]
    pods: tuple[PodFacts, ...]


Trace = tuple[Frame, ...]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    at: AwareDatetime
    samples: tuple[GpuSample, ...]
    pods: tuple[PodFacts, ...] | None = None


_FRAME = TypeAdapter(Frame)


def parse_lines(text: str, file: str) -> Trace:
    """The trace in `text`; `file` is only named in errors.

    Raises:
        InputError: a line is no look, names an unknown key, or goes back in time.
    """
    frames: list[Frame] = []
    pods: tuple[PodFacts, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            read = _Line.model_validate_json(line)
        except ValidationError as error:
            raise InputError(f"{file}:{number}: {_first_problem(error)}") from error
        if frames and read.at <= frames[-1].at:
            raise InputError(
                f"{file}:{number}: at = {read.at.isoformat()}: a trace goes forward in time, and the line before is "
                f"{frames[-1].at.isoformat()}. Sort the file by `at`."
            )
        pods = pods if read.pods is None else read.pods
        frames.append(Frame(read.at, read.samples, pods))
    if not frames:
        raise InputError(f"{file}: no look in it. Record some with `gpumem watchdog run`, or export from Prometheus.")
    return tuple(frames)


def _first_problem(error: ValidationError) -> str:
    detail = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in detail["loc"]) or "line"
    return f"{place} = {str(detail['input'])[:60]}: {detail['msg']}. A line is one look: at, samples, pods."


def to_lines(trace: Iterable[Frame]) -> str:
    """The inverse of `parse_lines`; pods are written where they change."""
    lines: list[str] = []
    pods: tuple[PodFacts, ...] | None = None
    for frame in trace:
        document = _FRAME.dump_python(frame, mode="json")
        if frame.pods == pods:
            del document["pods"]
        pods = frame.pods
        lines.append(json.dumps(document, sort_keys=True, separators=(",", ":")))
    return "".join(f"{line}\n" for line in lines)
