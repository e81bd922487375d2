"""The command line: exit codes, output forms, and what a person reads when something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from helpers.apps.cli import __main__ as cli
from helpers.apps.cli import estate_commands
from helpers.domain.errors import ExitCode

EXAMPLE = "gpumem.yaml"
BEFORE, AFTER = "estates/rtx3080ti-before-vllm.yaml", "estates/rtx3080ti.yaml"


@pytest.fixture(autouse=True)
def no_cluster_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBECONFIG", "KUBE_CONFIG_PATH", "GPUMEM_ESTATE", "GPUMEM_STEP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_valid_estate_exits_0_and_shows_the_sum(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["validate", "-f", EXAMPLE]) == ExitCode.OK
    assert "t4-node: 13300 of 14000 MiB promised to 5 always-on tenants, 700 MiB slack" in capsys.readouterr().out


def test_a_bad_estate_exits_2_and_every_problem_is_on_stderr(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(Path(EXAMPLE).read_text().replace("budget_mib: 5000", "budget_mib: 50000\n    colour: red"))
    assert cli.run(["validate", "-f", str(bad)]) == ExitCode.BAD_INPUT
    shown = capsys.readouterr()
    assert "tenants[1].colour" in shown.err
    assert "tenants[1].budget_mib = 50000" in shown.err
    assert shown.out == ""


def test_a_missing_estate_exits_2_and_says_how_to_name_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["validate", "-f", "nowhere.yaml"]) == ExitCode.BAD_INPUT
    assert "nowhere.yaml: cannot be read: No such file or directory. Name the estate with -f FILE." in (
        capsys.readouterr().err
    )


def test_wrong_usage_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["render", "-f", EXAMPLE]) == ExitCode.BAD_INPUT
    assert "exactly one of --output-dir DIR and --stdout" in capsys.readouterr().err


def test_no_kubeconfig_exits_2_and_says_where_it_was_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["verify", "-f", EXAMPLE]) == ExitCode.BAD_INPUT
    assert "KUBECONFIG" in capsys.readouterr().err


def test_an_unreachable_cluster_exits_3(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    assert cli.run(["verify", "-f", EXAMPLE, "--kubeconfig", str(kubeconfig)]) == ExitCode.DEPENDENCY
    assert "https://127.0.0.1:1" in capsys.readouterr().err


def test_a_fault_of_our_own_exits_70_with_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(estate_commands, "build_ledger", broken)
    assert cli.run(["validate", "-f", EXAMPLE]) == ExitCode.UNEXPECTED
    assert "Traceback" in capsys.readouterr().err


def test_an_unknown_tenant_names_the_closest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["release", "imich-ml", "-f", EXAMPLE]) == ExitCode.BAD_INPUT
    assert 'no tenant "imich-ml" in the estate: did you mean "immich-ml"?' in capsys.readouterr().err


def test_budget_is_only_for_workloads_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["budget", "set", "frigate", "-f", EXAMPLE]) == ExitCode.BAD_INPUT
    assert "apply is create" in capsys.readouterr().err


def test_a_budget_by_admission_is_in_no_workload(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = (
        Path(EXAMPLE).read_text().replace("apply: patch #", "apply: admission\n    pod_labels: {app: immich-ml} #", 1)
    )
    (tmp_path / "estate.yaml").write_text(text)
    assert cli.run(["budget", "set", "immich-ml", "-f", str(tmp_path / "estate.yaml")]) == ExitCode.BAD_INPUT
    assert "apply is admission, so its budget is put into each of its pods" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["capacity", "assert"], ["capacity", "unset"], ["verify"], ["budget", "set"]])
@pytest.mark.parametrize("step", ["", "{", "[]", '{"surprise": "1"}'])
def test_a_step_without_its_triggers_exits_2_and_touches_nothing(
    arguments: list[str], step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GPUMEM_STEP", step)
    assert cli.run([*arguments, "--step"]) == ExitCode.BAD_INPUT
    assert "GPUMEM_STEP" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"), [("KUBE_CONFIG_PATH", "/other"), ("KUBE_CTX", "prod"), ("KUBECONFIG", "/one:/two")]
)
def test_a_step_refuses_when_the_provider_might_use_another_cluster(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GPUMEM_STEP", '{"resource": "example.com/gpumem"}')
    monkeypatch.setenv("KUBECONFIG", "/mine")
    monkeypatch.setenv(name, value)
    assert cli.run(["capacity", "unset", "--step"]) == ExitCode.BAD_INPUT
    assert f"${name} = {value!r}" in capsys.readouterr().err


def test_report_shows_the_share_and_memory_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["report", "-f", EXAMPLE]) == ExitCode.OK
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert " ".join(rows["llama-swap"]) == "llama-swap llama-cpp 1 1 12.5 % 5000 35.7 % scheduler only 0"
    assert rows["available"] == ["available", "3", "37.5", "%", "700", "5.0", "%"]
    assert rows["total"] == ["total", "8", "100.0", "%", "14000", "100.0", "%"]


def test_report_says_what_holds_a_budget(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["report", "-f", AFTER]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert any("OF MEMORY" in line and "HELD BY" in line for line in lines)
    held = {line.split()[0]: word for line in lines for word in ("scheduler only", "soft cap") if word in line}
    assert (held["vllm"], held["plex"]) == ("soft cap", "scheduler only")
    assert cli.run(["report", "-f", AFTER, "-o", "json"]) == ExitCode.OK
    rows = json.loads(capsys.readouterr().out)["nodes"][0]["tenants"]
    assert {row["tenant"]: row["held_by"] for row in rows} == held


def test_report_compares_before_and_after(capsys: pytest.CaptureFixture[str]) -> None:
    """The tables of the second reference: vLLM takes two of the eight shares."""
    assert cli.run(["report", "-f", AFTER, "--compare", BEFORE, "-o", "json"]) == ExitCode.OK
    tenants = {row["tenant"]: row for row in json.loads(capsys.readouterr().out)["nodes"][0]["tenants"]}
    assert (tenants["vllm"]["shares_before"], tenants["vllm"]["shares_after"]) == (None, 2)
    assert {name: row["shares_after"] for name, row in tenants.items()} == {
        "plex": 0, "ollama": 1, "tts": 1, "whisper": 2, "vllm": 2,
    }  # fmt: skip


@pytest.mark.parametrize("output", ["json", "yaml", "markdown", "table"])
def test_every_output_form_holds_every_tenant(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["report", "-f", EXAMPLE, "-o", output]) == ExitCode.OK
    shown = capsys.readouterr().out
    for tenant in ("immich-ml", "llama-swap", "frigate", "immich-server", "portal-stt"):
        assert tenant in shown


def test_render_writes_one_stream_that_yaml_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["render", "-f", EXAMPLE, "--stdout"]) == ExitCode.OK
    kinds = [document["kind"] for document in yaml.safe_load_all(capsys.readouterr().out)]
    assert kinds[0] == "Namespace"
    assert kinds.count("Deployment") == 4  # the capacity watch, the watchdog, two tenants


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["completion", shell]) == ExitCode.OK
    assert "_GPUMEM_COMPLETE" in capsys.readouterr().out


def test_tenants_are_completed_from_the_estate() -> None:
    environment = {
        **os.environ,
        "_GPUMEM_COMPLETE": "bash_complete",
        "COMP_WORDS": "gpumem release imm",
        "COMP_CWORD": "2",
    }
    program = Path(sys.executable).parent / "gpumem"
    result = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ["plain,immich-ml", "plain,immich-server"]


def test_the_command_line_starts_without_cdktf_or_a_cluster_client() -> None:
    code = (
        "import sys, helpers.apps.cli.__main__; "
        "print([m for m in ('cdktf', 'jsii', 'kubernetes', 'lab') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]", result.stderr
