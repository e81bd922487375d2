"""Kubernetes Events as services write them: one for each act on an object that a person may look at."""

from __future__ import annotations

from typing import Literal, Protocol

from helpers.ports.cluster import Manifest

EventType = Literal["Normal", "Warning"]


class Events(Protocol):
    """Writes Events. A failure to write one is logged and never undoes or repeats the act itself."""

    def record(self, regarding: Manifest, reason: str, message: str, *, event_type: EventType = "Normal") -> None:
        """One Event on `regarding` (apiVersion, kind, metadata). `reason` is one UpperCamelCase word."""
        ...
