"""Which of the estate's nodes and cards those are that a trace has seen. A trace names nodes and uuids only."""

from __future__ import annotations

from collections.abc import Mapping

from helpers.domain.estate.model import Estate
from helpers.domain.estate.nodes import Node
from helpers.domain.watchdog.trace import Trace

# nvidia-smi's total and the data sheet's differ by a few MiB (ECC, firmware).
_SAME_CARD_RATIO = 0.03


def kinds_by_name(estate: Estate, trace: Trace) -> dict[str, str]:
    """`{Kubernetes node: node entry}` of those entries that have a node_name, or of the only entry."""
    seen = {sample.node for frame in trace for sample in frame.samples}
    named = {node.node_name: node.name for node in estate.nodes if node.node_name is not None}
    only = estate.nodes[0].name if len(estate.nodes) == 1 else None
    found = {node: named.get(node, only) for node in seen}
    return {node: entry for node, entry in found.items() if entry is not None}


def models_by_size(estate: Estate, trace: Trace, kinds: Mapping[str, str]) -> dict[str, str]:
    """`{card uuid: model}` by the card's own size, since samples do not name models."""
    entries = {node.name: node for node in estate.nodes}
    found: dict[str, str] = {}
    for frame in trace:
        for sample in frame.samples:
            entry = entries.get(kinds.get(sample.node, ""))
            if sample.uuid not in found and entry is not None and sample.total_mib is not None:
                model = _model_of_size(entry, sample.total_mib)
                if model is not None:
                    found[sample.uuid] = model
    return found


def _model_of_size(entry: Node, total_mib: int) -> str | None:
    same = [g.model for g in entry.gpus if abs(g.physical_mib - total_mib) <= g.physical_mib * _SAME_CARD_RATIO]
    return same[0] if len(same) == 1 else None
