"""The first look of the alerts' pages: every command of it that the example estate can answer, run on a lab.

What asks the manager, the coordinator or a machine itself is not in it; `tests/docs/test_documents.py` has those
commands' names and options.
"""

from __future__ import annotations

import re

import pytest

from helpers.domain.errors import ExitCode
from tests.fixtures.doctor_lab import Ward
from tests.synth.estates import PROJECT

pytestmark = pytest.mark.lab

PAGES = (
    "GPUCapacityMissing",
    "GPUTenantOverBudget",
    "GPUTenantPendingOnMemory",
    "GPUVRAMLow",
    "GPUVRAMTelemetryDown",
    "GPUVRAMWatchdogDown",
    "GPUWatchdogDisarmed",
    "GPUWatchdogRecyclingRepeatedly",
)
# Nobody listens there.
NO_PROMETHEUS = "http://127.0.0.1:9"


def first_look(page: str) -> list[str]:
    text = (PROJECT / f"docs/runbooks/{page}.md").read_text()
    block = re.search(r"^## First look\n.*?^```\n(.+?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block is not None, page
    lines = [line.partition(" #")[0].strip() for line in block[1].splitlines()]
    # What is looked for in the output has not happened here.
    return [line.partition(" | grep ")[0] for line in lines if line.startswith(("gpumem ", "kubectl "))]


def of_the_example(ward: Ward, line: str) -> str:
    """The line with the names of this estate."""
    if " POD" in line:
        pod = ward.pods("llama-cpp")[0]["metadata"]["name"]
        line = line.replace("NAMESPACE", "llama-cpp").replace("POD", pod)
    return line.replace("NAMESPACE", ward.estate.namespace).replace("URL", NO_PROMETHEUS)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_first_look_runs(ward: Ward, page: str) -> None:
    lines = first_look(page)
    assert lines
    for line in lines:
        done = ward.run(of_the_example(ward, line))
        # With a Prometheus: understood, and that it is not there.
        wanted = ExitCode.DEPENDENCY if "URL" in line else ExitCode.OK
        assert done.returncode == wanted, f"{line}: {done.returncode} {done.stdout}{done.stderr}"
