"""In which order a change can be applied, and which numbers the capacity step would refuse.

The nodes' side goes first, and the gate holds the consumers back until every node shows its new
number. A number below what runs is refused (`helpers.domain.capacity`): pods that run above it fail at
the next kubelet restart. So a card that shrinks under its tenants needs two changes, not one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from helpers.domain.estate.nodes import Node
from helpers.domain.review.documents import NO_WAVE, DocumentChange
from helpers.domain.review.places import Places


@dataclass(frozen=True)
class Lowering:
    """A machine's number goes below what runs on it; by the seating, since no cluster was asked."""

    node: str
    from_mib: int
    to_mib: int
    running_mib: int


def lowering_under_pods(old: Node, new: Node, before: Places) -> Lowering | None:
    """The lowering that the capacity step would refuse on a machine of `new`, or None."""
    running: dict[int, int] = {}
    for pod, machine in [*((p, s.node_index) for p, s in before.seats.items()), *before.crowded.items()]:
        running[machine] = running.get(machine, 0) + pod.budget_mib
    most_mib = max(running.values(), default=0)
    if new.advertised_mib >= old.advertised_mib or new.advertised_mib >= most_mib:
        return None
    return Lowering(new.name, old.advertised_mib, new.advertised_mib, most_mib)


def order_of(changes: Sequence[DocumentChange], grown: Sequence[str], lowered: Sequence[Lowering]) -> tuple[str, ...]:
    """What to apply in which order, a line a step. `grown`: nodes whose number rises."""
    if lowered:
        names = ", ".join(f"{one.node} {one.from_mib} → {one.to_mib} MiB" for one in lowered)
        return (
            "first, as a change of its own: the consumers, so that no more than the new number runs",
            f"then, as a second change: the nodes' number ({names})",
        )
    waves = {change.either.wave for change in changes} - {NO_WAVE}
    if not waves:
        return ()
    steps = []
    if 0 in waves:
        raised = f" ({', '.join(grown)}: the number rises)" if grown else ""
        steps.append(f"nvidia first{raised}")
    if 1 in waves:
        steps.append("consumers" + (", behind the gate: every node must show its number" if 0 in waves else ""))
    if 2 in waves:
        steps.append("platform last" if len(waves) > 1 else "platform alone")
    return tuple(steps)
