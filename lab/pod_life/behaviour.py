"""What a simulated pod does, read from its annotations."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from lab.api import Object

PREFIX = "lab.gpumem.io/"
EXIT_AFTER_SECONDS = f"{PREFIX}exit-after-seconds"
EXIT_CODE = f"{PREFIX}exit-code"
LOG = f"{PREFIX}log"
USED_MIB = f"{PREFIX}used-mib"
READY_AFTER_SECONDS = f"{PREFIX}ready-after-seconds"
TERMINATE_AFTER_SECONDS = f"{PREFIX}terminate-after-seconds"

# A program says the same by variables of its container, for pods whose annotations somebody else writes.
VARIABLE_PREFIX = "LAB_"

# A CronJob's Job is named after the minute it is for. Such a run has an end of its own, and one that never came to it
# would count as failed at its deadline.
_CRON_RUN = re.compile(r"-\d{8}$")
_CRON_RUN_SECONDS = "1"

HIGHEST_EXIT_CODE = 255
Number = TypeVar("Number", int, float)


class BehaviourError(ValueError):
    """An annotation that cannot be read; shown on the pod as its container's waiting message."""


@dataclass(frozen=True)
class Behaviour:
    """A pod's life.

    Attributes:
        exit_after_seconds: Its containers end this long after they start; None: never.
        exit_code: With this code, 0-255.
        log: The text that ``kubectl logs`` shows first.
        used_mib: GPU memory that it uses while it runs, MiB.
        ready_after_seconds: It answers probes this long after it starts.
        terminate_after_seconds: It needs this long to end when deleted, at most its grace period.
    """

    exit_after_seconds: float | None = None
    exit_code: int = 0
    log: str = ""
    used_mib: int = 0
    ready_after_seconds: float = 0.0
    terminate_after_seconds: float = 0.0


def told(pod: Object) -> dict[str, str]:
    """All that a pod says about its behaviour: variables (`LAB_EXIT_AFTER_SECONDS`) of its containers, annotations.

    A CronJob's run that says nothing of its end ends by itself.
    """
    job = pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name", "")
    found = {EXIT_AFTER_SECONDS: _CRON_RUN_SECONDS} if _CRON_RUN.search(job) else {}
    found |= {
        PREFIX + one["name"].removeprefix(VARIABLE_PREFIX).lower().replace("_", "-"): one.get("value", "")
        for container in pod["spec"]["containers"]
        for one in container.get("env", [])
        if one["name"].startswith(VARIABLE_PREFIX)
    }
    return found | dict(pod["metadata"].get("annotations", {}))


def read(annotations: Mapping[str, str]) -> Behaviour:
    """The behaviour that a pod's annotations describe.

    Raises:
        BehaviourError: A value is no number or out of range, or a key with our prefix is unknown.
    """
    known = {EXIT_AFTER_SECONDS, EXIT_CODE, LOG, USED_MIB, READY_AFTER_SECONDS, TERMINATE_AFTER_SECONDS}
    if unknown := sorted(key for key in annotations if key.startswith(PREFIX) and key not in known):
        raise BehaviourError(f"annotation {unknown[0]} is unknown; known are {', '.join(sorted(known))}")
    exits = EXIT_AFTER_SECONDS in annotations
    return Behaviour(
        exit_after_seconds=_number(annotations, EXIT_AFTER_SECONDS, float) if exits else None,
        exit_code=_number(annotations, EXIT_CODE, int, HIGHEST_EXIT_CODE),
        log=annotations.get(LOG, ""),
        used_mib=_number(annotations, USED_MIB, int),
        ready_after_seconds=_number(annotations, READY_AFTER_SECONDS, float),
        terminate_after_seconds=_number(annotations, TERMINATE_AFTER_SECONDS, float),
    )


def _number(
    annotations: Mapping[str, str], key: str, read_as: Callable[[str], Number], most: float = float(2**40)
) -> Number:
    text = annotations.get(key, "0")
    try:
        value = read_as(text)
    except ValueError as error:
        raise BehaviourError(f"annotation {key} is {text!r}, which is no number") from error
    if not 0 <= value <= most:  # also refuses NaN
        raise BehaviourError(f"annotation {key} is {text!r}; it may be 0 to {most:g}")
    return value
