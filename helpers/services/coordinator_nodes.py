"""Whether the nodes of an engine's card are Ready, as the API server says."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.domain import names
from helpers.domain.errors import ClusterError, Forbidden
from helpers.domain.lanes.engines import why_no_node
from helpers.domain.lanes.settings import EngineRule
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster, ObjectRef
from helpers.ports.log import Log

NODES = ObjectRef("v1", "Node")
# A node that is silent becomes NotReady after most of a minute: asking more often shows nothing earlier.
LOOK_SECONDS = 5.0


class NodeLooks:
    """Asks at most every few seconds. While the API is silent, what it said last holds: the card may well be there."""

    def __init__(self, cluster: Cluster, clock: Clock, log: Log) -> None:
        self._cluster = cluster
        self._clock = clock
        self._log = log
        self._last: dict[str, tuple[float, str]] = {}
        self._silent = False

    def problem(self, rule: EngineRule) -> str:
        """Why no node of the engine's can have the card; empty: one is Ready, or nobody knows.

        Raises:
            Forbidden: nodes may not be listed.
        """
        if not rule.node_labels:
            return ""
        asked_seconds, before = self._last.get(rule.node, (float("-inf"), ""))
        now_seconds = self._clock.monotonic_seconds()
        if now_seconds - asked_seconds < LOOK_SECONDS:
            return before
        found = self._ask(rule)
        self._last[rule.node] = (now_seconds, before if found is None else found)
        return self._last[rule.node][1]

    def _ask(self, rule: EngineRule) -> str | None:
        try:
            nodes: Sequence[dict[str, object]] = self._cluster.list(
                NODES, label_selector=names.label_selector(rule.node_labels)
            )
        except Forbidden:
            raise
        except ClusterError as error:
            if not self._silent:
                self._silent = True
                self._log.warning("nodes_unknown", node=rule.node, reason=str(error))
            return None
        self._silent = False
        return why_no_node(rule.node, nodes)
