"""Which client may pause or resume a queue. A wrong one loses jobs, so what is not certain is refused.

Read in BullMQ 4.18, 5.81 and 6.7: majors 4 and 5 RENAME the list `wait` to `paused` and back, which
wipes out whatever the target holds; 6 leaves jobs where they are, and its resume puts together what
it finds in both. So a queue of 5 that 6 paused, and whose application then added jobs, loses the
earlier ones at the next resume by 5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from helpers.domain.lanes.facts import QueueFacts

Major = Literal[4, 5, 6]
ClientName = Literal["4", "5", "6", "immich"]
_MAJORS: dict[str, Major] = {"4": 4, "5": 5, "6": 6}
_MERGES: ClientName = "6"


@dataclass(frozen=True)
class Refusal:
    """No client may touch the queue; `why` says what to do."""

    why: str


def client_for(facts: QueueFacts, declared: Major | None) -> ClientName | Refusal:
    """The client that pauses and resumes this queue without losing a job.

    `declared`: what the estate says of an application that leaves no version in Redis.
    """
    major = _major(facts, declared)
    if isinstance(major, Refusal):
        return major
    if facts.wait_count and facts.paused_count:
        # Somebody mixed majors already: a RENAME would wipe one of the lists out, 6 joins them.
        return _MERGES
    return major


def _major(facts: QueueFacts, declared: Major | None) -> ClientName | Refusal:
    if not facts.version:
        if declared is None:
            return Refusal(
                f"{facts.queue} has no version in meta.version (its application is a Python client), and pausing with "
                "another major version than its own loses jobs: set bullmq_major for the lane"
            )
        return _named(declared)
    match = re.fullmatch(r"bullmq:([0-9]+)\..*", facts.version)
    if match is None or match[1] not in _MAJORS:
        return Refusal(f"{facts.queue} belongs to {facts.version!r}, and only BullMQ 4, 5 and 6 are known")
    found = _MAJORS[match[1]]
    if declared is not None and declared != found:
        return Refusal(f"{facts.queue} belongs to {facts.version!r}, and the estate says bullmq_major: {declared}")
    return _named(found)


def _named(major: Major) -> ClientName:
    names: dict[Major, ClientName] = {4: "4", 5: "5", 6: "6"}
    return names[major]
