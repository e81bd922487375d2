"""What a command on one workload did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """`changed` is False where it was so already; `message` is one sentence for a person."""

    changed: bool
    message: str
