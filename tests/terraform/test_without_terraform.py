"""A machine without terraform runs everything else, and counts what it skipped with the reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lab.terraform_run import PROJECT
from tests.conftest import NO_TERRAFORM


def test_what_needs_terraform_is_skipped_counted_and_explained(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "tests/terraform/test_gate.py", "tests/unit/test_quantity.py"]
    environment = {**os.environ, "PATH": str(tmp_path)}
    result = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout
    assert "1 skipped" in result.stdout
    assert NO_TERRAFORM in result.stdout
