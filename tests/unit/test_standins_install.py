"""Where the stand-ins are put, when they are chosen, and how they find a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.standins.connection import Connection
from lab.standins.failure import Failure
from lab.standins.install import STANDINS, choose_providers, cli_config, install, os_arch

PYTHON = Path(sys.executable)
OFFLINE = 'echo "Error: Failed to query available provider packages" >&2; echo >&2; echo "no route" >&2; exit 1'


def fake_terraform(folder: Path, script: str) -> str:
    """A program that notes each call and does as told."""
    program = folder / "terraform"
    program.write_text(f"#!/bin/sh\necho call >> {folder}/calls\n{script}\n")
    program.chmod(0o755)
    return str(program)


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text().splitlines())


def test_the_mirror_has_both_providers_for_terraform_and_for_tofu(tmp_path: Path) -> None:
    install(tmp_path, PYTHON)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("terraform-provider-*")}
    assert found == {
        f"{registry}/{source}/{os_arch()}/{program}"
        for registry in ("registry.terraform.io", "registry.opentofu.org")
        for source, program in (
            ("alekc/kubectl/2.999.0", "terraform-provider-kubectl_v2.999.0"),
            ("hashicorp/null/3.999.0", "terraform-provider-null_v3.999.0"),
        )
    }


def test_a_wrapper_runs_its_module_whatever_lies_in_the_working_directory(tmp_path: Path) -> None:
    install(tmp_path / "mirror with space", PYTHON)
    (tmp_path / "lab.py").write_text("raise SystemExit('shadowed')")
    for wrapper in (tmp_path / "mirror with space").rglob("terraform-provider-*"):
        done = subprocess.run([str(wrapper)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert "is a lab stand-in and is started by terraform" in done.stderr


def test_the_settings_take_two_providers_from_the_mirror_and_all_others_as_ever(tmp_path: Path) -> None:
    cli_config(tmp_path / "terraform.tfrc", tmp_path / "mirror")
    text = (tmp_path / "terraform.tfrc").read_text()
    assert f'path    = "{tmp_path}/mirror"' in text
    for standin in STANDINS:
        assert text.count(f"registry.terraform.io/{standin.source}") == 2


def test_the_real_providers_are_used_where_init_finds_them(tmp_path: Path) -> None:
    choice = choose_providers(fake_terraform(tmp_path, "exit 0"), tmp_path / "lab", PYTHON)
    assert (choice.kind, choice.cli_config, choice.environment()) == ("real", None, {})


def test_the_stand_ins_are_used_where_it_does_not_and_the_reason_is_kept(tmp_path: Path) -> None:
    choice = choose_providers(fake_terraform(tmp_path, OFFLINE), tmp_path / "lab", PYTHON)
    assert choice.kind == "stand-in"
    assert "Failed to query available provider packages no route" in choice.reason
    assert choice.cli_config is not None
    assert choice.environment() == {"TF_CLI_CONFIG_FILE": str(choice.cli_config)}
    assert choice.cli_config.is_file()


def test_a_registry_that_never_answers_is_given_up(tmp_path: Path) -> None:
    program = fake_terraform(tmp_path, "sleep 300 & wait")
    choice = choose_providers(program, tmp_path / "lab", PYTHON, probe_seconds=0.3)
    assert choice.kind == "stand-in"
    assert choice.reason.endswith("no answer within 0.3 s")


def test_a_missing_program_is_a_reason_too(tmp_path: Path) -> None:
    assert "cannot start it" in choose_providers(str(tmp_path / "none"), tmp_path / "lab", PYTHON).reason


def test_the_answer_is_kept_until_the_question_changes_or_the_files_go(tmp_path: Path) -> None:
    program, lab = fake_terraform(tmp_path, OFFLINE), tmp_path / "lab"
    first = choose_providers(program, lab, PYTHON, environment=os.environ)
    assert choose_providers(program, lab, PYTHON, environment=os.environ) == first
    assert calls(tmp_path) == 1
    choose_providers(program, lab, PYTHON, environment={**os.environ, "TF_CLI_CONFIG_FILE": "/other"})
    assert calls(tmp_path) == 2
    assert first.cli_config is not None
    first.cli_config.unlink()
    choose_providers(program, lab, PYTHON, environment={**os.environ, "TF_CLI_CONFIG_FILE": "/other"})
    assert calls(tmp_path) == 3
    (lab / "providers.json").write_text("{")
    choose_providers(program, lab, PYTHON, environment=os.environ)
    assert calls(tmp_path) == 4


def test_the_probe_does_not_touch_the_data_folder_of_the_caller(tmp_path: Path) -> None:
    program = fake_terraform(tmp_path, 'test -z "$TF_DATA_DIR" && test "$PWD" != "$HERE"')
    environment = {**os.environ, "TF_DATA_DIR": str(tmp_path), "HERE": str(tmp_path)}
    assert choose_providers(program, tmp_path / "lab", PYTHON, environment=environment).kind == "real"


def test_the_provider_block_goes_before_the_environment_and_that_before_the_default() -> None:
    assert Connection.resolve({}, {}).config_path == "~/.kube/config"
    variables = {"KUBECONFIG": "b", "KUBE_CONFIG_PATH": "c", "KUBE_LOAD_CONFIG_FILE": "false"}
    assert Connection.resolve({}, variables).config_path == "b"
    assert Connection.resolve({}, {"KUBE_CONFIG_PATH": "c"}).config_path == "c"
    both = Connection.resolve({"config_path": "a", "load_config_file": True}, variables)
    assert (both.config_path, both.load_config_file) == ("a", True)
    assert Connection.resolve({}, variables).kubeconfig is None


def test_the_number_of_tries_may_be_none_at_all() -> None:
    assert Connection.resolve({}, {}).retry_count == 1
    assert Connection.resolve({"apply_retry_count": 0}, {}).retry_count == 0
    assert Connection.resolve({"apply_retry_count": 0}, {"KUBECTL_PROVIDER_APPLY_RETRY_COUNT": "4"}).retry_count == 4


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="nowhere: no such file"):
        Connection(config_path=str(tmp_path / "nowhere")).check()
    with pytest.raises(Failure, match="neither a kubeconfig nor host"):
        Connection(load_config_file=False).check()


def test_host_and_token_are_enough_and_loopback_takes_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    connection = Connection(host="127.0.0.1:6443/", token="t0", insecure=True, load_config_file=False)
    settings = connection.client().configuration
    assert settings.host == "https://127.0.0.1:6443"
    assert settings.proxy is None
    assert settings.verify_ssl is False
    assert [auth["value"] for auth in settings.auth_settings().values()] == ["Bearer t0"]
