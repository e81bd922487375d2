"""Asking a running tenant to give memory back."""

from __future__ import annotations

from typing import Protocol

from helpers.domain.estate.watchdog import ReleaseHook
from helpers.domain.watchdog.ladder_steps import HookAnswered


class ReleaseHooks(Protocol):
    """Calls hooks. An answer is no proof: whoever asked measures again."""

    def call(self, hook: ReleaseHook, address: str, timeout_seconds: float) -> HookAnswered:
        """Asks the tenant at the pod's `address`; never takes longer than `timeout_seconds`, never raises."""
        ...
