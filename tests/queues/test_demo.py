"""`make demo-queues` tells the guide's story, and ends well."""

from __future__ import annotations

import subprocess
import sys


def test_the_demo_of_the_queues_goes_as_its_guide_says() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "lab.queues.demo"], capture_output=True, text=True, timeout=240, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr
    story = [line.split(" s  ", 1)[1] for line in told.stdout.splitlines()]
    for beginning in (
        "batch is paused, ",
        "batch is resumed",
        "all 6 batch jobs are done, each once",
        'GET /v1/status: 503, Retry-After 30, "AI service temporarily unavailable"',
        "Ollama is back",
        "the coordinator is started anew, outside batch's hours: outside its windows until ",
    ):
        assert any(line.startswith(beginning) for line in story), (beginning, told.stdout)
