"""How long a node that registers again offers no card to claims, with its agent running.

Brings up a lab of its own with one bare node, runs the agent for it as a process on the lab's stand-in driver, then
deletes and registers the node again. The clock starts when this observer's watch sees the new Node object and stops
when it sees a ResourceSlice of that object with all its cards. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.reregistration import Observer, figures, measure
from helpers.adapters.kubernetes_ import connect
from helpers.domain.dra import naming
from helpers.services.claims import SLICES
from helpers.services.dra_publish import CONTEST_SPAN_SECONDS, CONTEST_WRITES_COUNT
from lab import cluster as lab_cluster
from lab.cluster import LabNode
from lab.dra_agent_process import Agent

NODE, CARDS_COUNT = "bench-claims", 2
# Written more often than so, the agent takes it that somebody writes against it, and waits.
PAUSE_SECONDS = CONTEST_SPAN_SECONDS / CONTEST_WRITES_COUNT + 0.1


def _uid_with_cards(item: Mapping[str, Any]) -> str:
    spec, owners = item["spec"], item["metadata"].get("ownerReferences") or [{}]
    whole = spec["driver"] == naming.DRIVER and len(spec.get("devices") or ()) == CARDS_COUNT
    return str(owners[0].get("uid", "")) if whole else ""


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="re-registrations of the node")
    options = parser.parse_args()
    # Short: a socket's path has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="dra") as folder:
        root = Path(folder)
        try:
            nodes = [LabNode(NODE, {}, {}, "bare")]
            lab = lab_cluster.up("bench", nodes, root, lambda line: print(line, file=sys.stderr))
            agent = Agent(lab, root, NODE, lab.kubeconfig)
            with Observer(connect(lab.kubeconfig), _uid_with_cards, SLICES) as observer:
                agent.start()
                try:
                    taken = figures(measure(lab, observer, NODE, options.rounds, PAUSE_SECONDS))
                finally:
                    agent.stop()
        finally:
            lab_cluster.down("bench", root)
    kubernetes = lab_cluster.status("bench", root)["kubernetes"]
    print(json.dumps({"benchmark": "claims_restore", "kubernetes": kubernetes, **taken}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
