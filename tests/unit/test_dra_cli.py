"""`gpumem dra-agent run`: what it is told wrongly is said before anything is touched."""

from __future__ import annotations

import pytest

from helpers.apps.cli.__main__ import run
from helpers.domain.dra.settings import DraAgentSettings
from helpers.domain.errors import ExitCode

GOOD = ["--node-name", "gpu-node"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "Missing option '--node-name'"),
        (["--node-name", "GPU node"], "node_name 'GPU node' is no Node's name; in a pod take it from spec.nodeName"),
        ([*GOOD, "--reserve-mib", "-1"], "reserve_mib: Input should be greater than or equal to 0"),
        ([*GOOD, "--reserve-by-model", "Tesla T4"], "--reserve-by-model 'Tesla T4' is not MODEL=MIB"),
        ([*GOOD, "--interval-seconds", "0"], "interval_seconds: Input should be greater than or equal to 0.1"),
        ([*GOOD, "--mig-profile", "1g"], "mig_profiles: '1g' is no MIG profile such as"),
    ],
)
def test_bad_settings_are_named(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dra-agent", "run", *options]) == ExitCode.BAD_INPUT
    assert said in capsys.readouterr().err


def test_the_node_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GPUMEM_DRA_NODE_NAME", "Node of the environment")
    assert run(["dra-agent", "run"]) == ExitCode.BAD_INPUT
    assert "node_name 'Node of the environment'" in capsys.readouterr().err


def test_the_kubelets_own_folders_are_the_defaults() -> None:
    settings = DraAgentSettings(node_name="gpu-node")
    assert settings.plugin_dir == "/var/lib/kubelet/plugins/gpu.gpumem.io"
    assert (settings.registry_dir, settings.cdi_dir) == ("/var/lib/kubelet/plugins_registry", "/var/run/cdi")
