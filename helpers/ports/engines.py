"""A tenant's card and server as the coordinator asks them."""

from __future__ import annotations

from typing import Protocol

from helpers.domain.lanes.engines import EngineFacts, Unload
from helpers.domain.lanes.settings import EngineRule


class Engines(Protocol):
    """Asks; never takes longer than a few seconds, and never raises: silence is a fact, too."""

    def look(self, rule: EngineRule) -> EngineFacts:
        """What its server and its node's exporter say now."""
        ...

    def unload(self, rule: EngineRule, unload: Unload) -> str:
        """Asks the server to unload; why it did not take the wish, empty where it did.

        An answer is no proof: the memory is free when `look` says so.
        """
        ...
