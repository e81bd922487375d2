"""What the guide of GPU jobs states, held against the code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.domain.jobs.limits import WARN_RATIO
from helpers.domain.jobs.settings import ManagerSettings
from helpers.domain.jobs.spec import Checkpoint, read_spec
from helpers.domain.jobs.states import graph
from lab.ports import free_ports
from tests.fakes.jobs import EXAMPLE

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guides" / "gpu-jobs.md").read_text(encoding="utf-8")


def test_the_graph_is_the_table() -> None:
    assert f"```mermaid\n{graph()}\n```" in GUIDE


def test_the_example_can_be_submitted_and_is_the_references() -> None:
    (text,) = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    document = json.loads(text)
    read_spec(document)
    shared = {name: value for name, value in document.items() if name != "checkpoint"}
    assert {**shared, "container": {**shared["container"], "env": EXAMPLE["container"]["env"]}} == EXAMPLE


def test_its_numbers_are_the_codes() -> None:
    assert f"{WARN_RATIO:.0%}".replace("%", " %") in GUIDE
    assert f"every {Checkpoint(signal='SIGUSR1').interval_seconds // 60} minutes" in GUIDE
    for name in re.findall(r"`((?:aging|idle|spot)_[a-z]+)`", GUIDE):
        assert name in ManagerSettings.model_fields


@pytest.mark.skipif(shutil.which("jq") is None, reason="the guide's last line needs jq")
def test_what_is_to_be_tried_on_this_machine_runs_as_it_stands_there(tmp_path: Path) -> None:
    """All lines at once, as somebody pastes them; only the ports are free ones."""
    (block,) = re.findall(r"^```sh\n(.+?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    port, metrics = free_ports(2)
    ours = f" --address 127.0.0.1:{port} --metrics-address 127.0.0.1:{metrics} 2> manager.log &\n"
    assert block.count(" &\n") == 1
    block = block.replace(" &\n", ours).replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    (tmp_path / "estates").symlink_to(ROOT / "estates")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {key: text for key, text in os.environ.items() if not key.startswith("GPUMEM_")} | {"PATH": path}
    script = f"set -euo pipefail\ntrap 'kill %1' EXIT\n{block}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "manager.log").read_text()[-2000:]
    assert re.search(r"^gpu-job-\w+ \(first\) is cancelled$", done.stdout, re.MULTILINE), done.stdout
