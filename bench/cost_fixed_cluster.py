"""The same week on nodes that are always there."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence

from bench.cost_world import Kind, Work
from helpers.domain.watchdog.recommendation import percentile


def fixed_waits(works: Sequence[Work], kind: Kind, nodes_count: int) -> list[int]:
    """Waits of the kind's jobs on nodes that are always there: first come, first served, the fullest that fits."""
    free = [kind.node_cards] * nodes_count
    ends: list[tuple[int, int, int]] = []
    now, waits = 0, []
    for work in (one for one in works if one.kind is kind):
        now = max(now, work.arrives_at)
        while True:
            while ends and ends[0][0] <= now:
                _, index, cards = heapq.heappop(ends)
                free[index] += cards
            fitting = [index for index, cards in enumerate(free) if cards >= work.cards]
            if fitting:
                break
            now = ends[0][0]
        index = min(fitting, key=lambda one: free[one])
        free[index] -= work.cards
        heapq.heappush(ends, (now + work.work_seconds, index, work.cards))
        waits.append(now - work.arrives_at)
    return waits


def fixed_nodes(works: Sequence[Work], kind: Kind, wait_p95_seconds: int) -> int:
    """The fewest nodes with which the kind's waits stay in the bound; 0 where it has no job."""
    if not any(work.kind is kind for work in works):
        return 0
    for count in itertools.count(1):
        if (percentile(sorted(fixed_waits(works, kind, count)), 0.95) or 0) <= wait_p95_seconds:
            return count
    raise AssertionError("one node for each job is always enough")
