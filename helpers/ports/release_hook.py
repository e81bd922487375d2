"""Asking a running tenant to give memory back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from helpers.domain.estate.watchdog import ReleaseHook
from helpers.domain.watchdog.ladder_steps import HookAnswered


@dataclass(frozen=True, slots=True)
class HookTarget:
    """The pod that is asked: its `address` for a request, its `container` for a command."""

    namespace: str
    pod: str
    container: str
    address: str


class ReleaseHooks(Protocol):
    """Calls hooks. An answer is no proof: whoever asked measures again."""

    def call(self, hook: ReleaseHook, target: HookTarget, timeout_seconds: float) -> HookAnswered:
        """Asks the tenant; never takes longer than `timeout_seconds`, never raises."""
        ...
