"""`gpumem gpu` against the API over real HTTP: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.apps.cli import __main__ as cli
from helpers.domain.errors import ExitCode
from helpers.domain.jobs.observation import Phase
from helpers.domain.jobs.states import JobStatus
from helpers.sdk import gpu_wire
from tests.fakes.jobs import document
from tests.manager.scene import ALICE, VIEWER, Scene

Run = Callable[..., tuple[int, str, str]]
SUBMIT = ["submit", "--name", "train", "-n", "vision", "--gpu", "A100", "--gpu-memory-gb", "80", "--image", "x:1"]


@pytest.fixture
def gpu(scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs it as alice; its exit code, stdout and stderr."""
    monkeypatch.setattr(gpu_wire, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(gpu_wire, "FIRST_LOOK_SECONDS", 0.01)
    monkeypatch.setenv("GPUMEM_MANAGER_URL", str(scene.client.base_url))
    monkeypatch.setenv("GPUMEM_MANAGER_TOKEN", ALICE)

    def run(*arguments: str, program: Any = cli.cli) -> tuple[int, str, str]:
        code = cli.run(["gpu", *arguments], program)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_submit_list_get_and_cancel(gpu: Run, scene: Scene) -> None:
    scene.bench.board.look()
    code, out, _ = gpu(*SUBMIT, "--gpus", "2", "--env", "MODE=a=b", "--", "python", "train.py", "--epochs", "3")
    assert code == ExitCode.OK
    assert re.match(r"gpu-job-1 is pending, position 1, starts about .* \(confidence: start low, cost \w+\)", out)
    container = scene.bench.job("gpu-job-1").spec.container
    assert container.command == ("python", "train.py", "--epochs", "3")
    assert container.env == {"MODE": "a=b"}

    _, out, _ = gpu("list")
    heading, line = out.splitlines()
    assert heading.split() == ["JOB", "NAME", "PROJECT", "PRIORITY", "GPUS", "STATUS", "POSITION", "AGE", "COST", "USD"]
    assert line.split()[:8] == ["gpu-job-1", "train", "vision", "medium", "2", "x", "A100", "80GB"]
    _, out, _ = gpu("get", "gpu-job-1")
    assert re.search(r"^Submitted: +\S+ \S+ by alice$", out, re.M)
    assert re.search(r"submitted +alice +it was committed", out)

    assert gpu("cancel", "gpu-job-1", "--dry-run")[1] == "gpu-job-1 (train) is pending, would be cancelled (dry run)\n"
    assert scene.bench.job("gpu-job-1").status is JobStatus.PENDING
    assert gpu("cancel", "gpu-job-1")[1] == "gpu-job-1 (train) is cancelled\n"
    assert gpu("list", "--status", "running")[1] == "no jobs\n"


def test_the_audit_log_for_people_and_machines(gpu: Run, scene: Scene) -> None:
    assert gpu("audit")[1] == "no entries\n"
    gpu(*SUBMIT)
    gpu("cancel", "gpu-job-1")
    heading, _, line = gpu("audit", "-n", "vision")[1].splitlines()
    assert heading.split() == ["SEQUENCE", "AT", "BY", "WHAT", "PROJECT", "SUBJECT", "CHANGE"]
    assert re.search(r"alice +cancel +vision +gpu-job-1 +status: pending -> cancelled, reason: alice cancelled", line)
    (cancelled,) = json.loads(gpu("audit", "--after", "1", "-o", "json")[1])
    assert (cancelled["actor"], cancelled["action"]) == ("alice", "cancel")
    assert gpu("audit", "-n", "text")[0] == ExitCode.CHECK_FAILED


def test_it_is_odg_gpu_as_well(gpu: Run) -> None:
    code, out, _ = gpu(*SUBMIT, program=cli.odg)
    assert (code, out.split()[0]) == (ExitCode.OK, "gpu-job-1")
    assert cli.run(["validate"], cli.odg) == ExitCode.BAD_INPUT


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_machines_get_the_apis_own_fields(gpu: Run, scene: Scene, output: str) -> None:
    read: Callable[[str], Any] = json.loads if output == "json" else yaml.safe_load
    job_id = read(gpu(*SUBMIT, "-o", output)[1])["job_id"]
    assert read(gpu("get", job_id, "-o", output)[1])["gpu_requirements"]["gpu_type"] == "A100"
    assert [job["job_id"] for job in read(gpu("list", "-o", output)[1])] == [job_id]
    scene.bench.clock.advance(1)
    assert read(gpu("queues", "-o", output)[1])["engine"] == "fake"
    assert read(gpu("usage", "-o", output)[1])[0]["project_id"] == "vision"
    assert read(gpu("usage", "vision", "-o", output)[1])["jobs"] == {"pending": 1}


def test_a_job_comes_from_a_file_and_options_go_before_it(gpu: Run, scene: Scene, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(document(job_name="of-the-file", workers=2)))
    assert gpu("submit", "-f", str(file), "--priority", "high")[::2] == (ExitCode.OK, "")
    kept = scene.bench.job("gpu-job-1").spec
    assert (kept.job_name, kept.workers, kept.priority) == ("of-the-file", 2, "high")


def test_a_dry_run_checks_and_submits_nothing(gpu: Run, scene: Scene) -> None:
    assert gpu(*SUBMIT, "--dry-run")[:2] == (ExitCode.OK, "train is well-formed: 1 of A100_80GB (dry run)\n")
    code, out, err = gpu(*SUBMIT, "--mig-profile", "9g.90gb", "--dry-run")
    assert (code, out) == (ExitCode.BAD_INPUT, "")
    assert 'gpu_requirements.mig_profile = 9g.90gb: a MIG profile of A100 with 80 GB; did you mean "7g.80gb"?' in err
    assert list(scene.bench.store.queue()) == []


def test_exit_codes_say_whose_turn_it_is(gpu: Run, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu(*SUBMIT, "--gpus", "17")[0] == ExitCode.BAD_INPUT
    assert gpu("submit")[0] == ExitCode.BAD_INPUT
    assert gpu("submit", "--job", "[1]")[0] == ExitCode.BAD_INPUT
    assert gpu("get", "gpu-job-9")[0] == ExitCode.CHECK_FAILED
    monkeypatch.setenv("GPUMEM_MANAGER_TOKEN", VIEWER)
    code, _, err = gpu(*SUBMIT)
    assert code == ExitCode.CHECK_FAILED
    assert "viewer may not create gpujobs.gpumem.io in namespace vision" in err
    scene.callers.broken = "no API server"
    code, _, err = gpu("queues", "--server", "http://127.0.0.1:1")
    assert code == ExitCode.DEPENDENCY
    assert "http://127.0.0.1:1 did not answer" in err


def test_waiting_ends_with_the_job_and_says_how(gpu: Run, scene: Scene, tmp_path: Path) -> None:
    scene.bench.submit()
    code, _, err = gpu(*SUBMIT, "--wait", "--timeout", "0.05", "--job-id-file", str(tmp_path / "out" / "id"))
    assert code == ExitCode.CHECK_FAILED
    assert "gpu-job-2 is pending" in err
    assert (tmp_path / "out" / "id").read_text() == "gpu-job-2"
    for _ in range(2):
        scene.bench.turn()
    scene.bench.engine.see("gpu-job-2", Phase.FAILED, "exit code 1")
    scene.bench.turn()
    code, _, err = gpu(*SUBMIT, "--idempotency-key", "again", "--wait", "--timeout", "0")
    assert code == ExitCode.CHECK_FAILED


@pytest.mark.parametrize(
    ("options", "left"), [(["--cancel-when-stopped"], JobStatus.CANCELLED), ([], JobStatus.PENDING)]
)
def test_a_stop_signal_cancels_only_where_that_was_asked_for(
    gpu: Run, scene: Scene, options: list[str], left: JobStatus
) -> None:
    command = [sys.executable, "-m", "helpers.apps.cli", "gpu", *SUBMIT, "--wait", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stderr is not None
    until_seconds = time.monotonic() + 60
    while "gpu-job-1 is pending\n" not in process.stderr.readline():
        assert time.monotonic() < until_seconds
    process.send_signal(signal.SIGTERM)
    said = process.stderr.read()
    assert process.wait(60) == ExitCode.CHECK_FAILED
    assert "stopped" in said
    assert scene.bench.job("gpu-job-1").status is left


def test_tables_of_queues_and_money(gpu: Run, scene: Scene) -> None:
    scene.bench.submit()
    scene.bench.board.look()
    scene.bench.clock.advance(75)
    _, out, _ = gpu("queues")
    assert out.splitlines()[1].split() == ["A100_80GB", "8", "0", "1", "1", "1m15s"]
    assert gpu("usage")[1].splitlines()[1].split() == ["vision", "1", "0", "16", "1", "0.00", "none"]
    assert "0.00 GPU hours, 0.00 USD" in gpu("usage", "vision")[1]
    assert gpu("usage", "--from", "2026-01-01")[0] == ExitCode.BAD_INPUT
    assert gpu("queues", "-o", "markdown")[1].startswith("| pool")


def test_jobs_are_completed_by_the_shell(
    gpu: Run, scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.bench.submit()
    completion = {"_GPUMEM_COMPLETE": "bash_complete", "COMP_WORDS": "gpumem gpu get gpu-job", "COMP_CWORD": "3"}
    for server, expected in ((str(scene.client.base_url), "plain,gpu-job-1"), ("http://127.0.0.1:1", "")):
        environment = {**os.environ, **completion, "GPUMEM_MANAGER_URL": server}
        answer = subprocess.run(["gpumem"], executable=Path(sys.executable).with_name("gpumem"), env=environment,
                                capture_output=True, text=True, timeout=60)  # fmt: skip
        assert answer.stdout.strip() == expected
