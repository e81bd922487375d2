"""A day in a minute with 10,000 mixed jobs, without and with the worker-side helper; one JSON line.

Compared with: an oracle that begins the same batch jobs behind the same realtime jobs with perfect
knowledge. Batch jobs begun while realtime is active are counted: those of the reaction time without
the helper, none with it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from lab.queues.day import Day, live_through
from lab.redis_server import redis_server


def main() -> int:
    """Measures and prints; exit 1 where a job was lost, run twice, or begun where it must not be."""
    found = {}
    for name, helper in (("coordinator", False), ("coordinator_and_helper", True)):
        with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder) / "redis", durable=False) as server:
            outcome = live_through(server.url, Path(folder), Day(), helper=helper)
        found[name] = {**outcome.__dict__, "delay_ratio_to_oracle": round(outcome.delay_ratio, 2)}
    load_average = round(os.getloadavg()[0], 2)
    print(json.dumps({"benchmark": "coordinator_day", "cores": os.cpu_count(), "load_average": load_average, **found}))
    bad = ("lost_count", "run_twice_count", "in_working_hours_count", "begun_after_the_pause_count")
    failed = any(one[key] for one in found.values() for key in bad)
    return 1 if failed or found["coordinator_and_helper"]["begun_beside_realtime_count"] else 0


if __name__ == "__main__":
    sys.exit(main())
