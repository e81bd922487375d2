"""The guide's first steps, run as they stand: a plain manager with SQLite, and the command line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.manager_process import ROOT
from lab.ports import free_ports

GUIDE = (ROOT / "docs" / "guides" / "gpu-jobs.md").read_text(encoding="utf-8")
(STEPS,) = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
# Between two commands of a person there is time for the server to come up.
READY = 'for _ in $(seq 600); do curl -fs "$GPUMEM_MANAGER_URL/readyz" >/dev/null && break; sleep 0.1; done\n'


def test_the_first_steps_do_what_the_guide_says(tmp_path: Path) -> None:
    if shutil.which("jq") is None or shutil.which("curl") is None:
        pytest.skip("the steps use jq and curl, and this machine lacks one")
    port = free_ports(1)[0]
    steps = STEPS.replace("gpumem manager run", f"gpumem manager run --address 127.0.0.1:{port} --metrics-address ''")
    steps = steps.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{port}")
    steps = steps.replace("gpumem gpu submit", f"{READY}gpumem gpu submit", 1)
    (tmp_path / "estates").symlink_to(ROOT / "estates")
    script = f"set -e\ntrap 'kill $!' EXIT\n{steps}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    answer = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert re.search(r"^gpu-job-\w+ is pending, position 1", answer.stdout, re.MULTILINE)
    assert "3000 MiB of T4" in answer.stdout
    assert re.search(r"\(first\) is cancelled\n$", answer.stdout)
