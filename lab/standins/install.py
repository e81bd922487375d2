"""Puts the stand-ins where Terraform finds them, and decides whether they are needed at all."""

from __future__ import annotations

import json
import os
import platform
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

REGISTRIES = ("registry.terraform.io", "registry.opentofu.org")
"""Where a plain ``alekc/kubectl`` resolves: the first for terraform, the second for tofu."""

PROBE_SECONDS = 60.0
"""Bound on the try for the real providers: the two are about 40 MB, a registry that refuses does so at once."""

PROBE = """terraform {
  required_providers {
    kubectl = { source = "alekc/kubectl", version = ">= 2.1, < 3" }
    null    = { source = "hashicorp/null", version = ">= 3.2, < 4" }
  }
}
"""


@dataclass(frozen=True)
class Standin:
    """One provider that the lab can stand in for."""

    source: str
    version: str
    """Fits the project's constraint, and is visibly no release."""
    module: str

    @property
    def program(self) -> str:
        """The file name that Terraform looks for."""
        return f"terraform-provider-{self.source.split('/')[1]}_v{self.version}"


STANDINS = (
    Standin("alekc/kubectl", "2.999.0", "lab.standins.kubectl_provider"),
    Standin("hashicorp/null", "3.999.0", "lab.standins.null_provider"),
)


@dataclass(frozen=True)
class ProviderChoice:
    """Which providers this lab's Terraform runs use."""

    kind: Literal["real", "stand-in"]
    cli_config: Path | None
    """For ``TF_CLI_CONFIG_FILE``; None: leave the user's own settings alone."""
    reason: str
    """One line for reports: why it is so."""

    def environment(self) -> dict[str, str]:
        """Variables to add for a Terraform run with this choice."""
        return {} if self.cli_config is None else {"TF_CLI_CONFIG_FILE": str(self.cli_config)}


def os_arch() -> str:
    """This machine in Terraform's words, such as ``linux_amd64``."""
    machines = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
    machine = platform.machine().lower()
    return f"{platform.system().lower()}_{machines.get(machine, machine)}"


def install(mirror_dir: Path, python: Path) -> None:
    """Writes a filesystem mirror with both stand-ins, run by ``python`` (which must have the ``dev`` extra).

    The wrapper is all that Terraform hashes, so a changed stand-in needs no new lock file.
    """
    root = Path(__file__).resolve().parents[2]
    for registry in REGISTRIES:
        for standin in STANDINS:
            folder = mirror_dir / registry / standin.source / standin.version / os_arch()
            folder.mkdir(parents=True, exist_ok=True)
            # -P: terraform's working directory must not be able to shadow a module.
            wrapper = (
                "#!/bin/sh\n"
                f"PYTHONPATH={shlex.quote(str(root))}\nexport PYTHONPATH\n"
                f'exec {shlex.quote(str(python.absolute()))} -P -m {standin.module} "$@"\n'
            )
            _write_program(folder / standin.program, wrapper)


def cli_config(path: Path, mirror_dir: Path) -> None:
    """Writes a Terraform CLI configuration: the stand-ins from the mirror, every other provider as ever."""
    addresses = json.dumps([f"{registry}/{standin.source}" for registry in REGISTRIES for standin in STANDINS])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "provider_installation {\n"
        f"  filesystem_mirror {{\n    path    = {json.dumps(str(mirror_dir.absolute()))}\n"
        f"    include = {addresses}\n  }}\n"
        f"  direct {{\n    exclude = {addresses}\n  }}\n"
        "}\n"
    )


def choose_providers(
    terraform: str,
    work_dir: Path,
    python: Path,
    *,
    environment: Mapping[str, str] | None = None,
    probe_seconds: float = PROBE_SECONDS,
) -> ProviderChoice:
    """Real providers where ``terraform init`` gets them with the user's own settings, else the stand-ins.

    Args:
        terraform: the program, ``terraform`` or ``tofu``.
        work_dir: the lab's folder; keeps the answer (``providers.json``) and the stand-ins for the lab's life.
        python: the interpreter that runs the stand-ins.
        environment: variables of the user; this process's own where None.
        probe_seconds: bound on the try.
    """
    variables = dict(os.environ if environment is None else environment)
    asked = {"terraform": terraform, "settings": variables.get("TF_CLI_CONFIG_FILE", ""), "python": str(python)}
    record = work_dir / "providers.json"
    kept = _recorded(record, asked)
    if kept is not None:
        return kept
    problem = _probe(terraform, variables, probe_seconds)
    work_dir.mkdir(parents=True, exist_ok=True)
    if problem is None:
        choice = ProviderChoice("real", None, f"{terraform} init found both providers")
    else:
        mirror, settings = work_dir / "provider-mirror", work_dir / "terraform.tfrc"
        install(mirror, python)
        cli_config(settings, mirror)
        choice = ProviderChoice("stand-in", settings.absolute(), f"{terraform} init: {problem}")
    answer = {"kind": choice.kind, "cli_config": choice.cli_config and str(choice.cli_config), "reason": choice.reason}
    record.write_text(json.dumps({"asked": asked, **answer}, indent=2) + "\n")
    return choice


def _recorded(record: Path, asked: dict[str, str]) -> ProviderChoice | None:
    """The kept answer, if it was to the same question and what it names is still there."""
    try:
        held = json.loads(record.read_text())
        settings = Path(held["cli_config"]) if held["cli_config"] else None
        choice = ProviderChoice(held["kind"], settings, held["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    usable = choice.cli_config is None or choice.cli_config.is_file()
    return choice if held.get("asked") == asked and usable else None


def _probe(terraform: str, variables: dict[str, str], bound_seconds: float) -> str | None:
    """None where ``init`` gets both providers, else the first thing that it complained of."""
    variables = {**variables, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    for name in ("TF_DATA_DIR", "TF_WORKSPACE"):
        variables.pop(name, None)
    with tempfile.TemporaryDirectory(prefix="provider-probe-") as folder:
        Path(folder, "main.tf").write_text(PROBE)
        command = [terraform, "init", "-backend=false", "-input=false", "-no-color"]
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=variables,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        except OSError as exc:
            return f"cannot start it: {exc}"
        try:
            _, complaints = process.communicate(timeout=bound_seconds)
        except subprocess.TimeoutExpired:
            # init starts helpers of its own: the whole session ends, not only its leader.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return f"no answer within {bound_seconds:g} s"
    return None if process.returncode == 0 else _first_error(complaints)


def _first_error(complaints: str) -> str:
    """The first error of Terraform's output as one line."""
    _, found, after = complaints.partition("Error: ")
    paragraphs = (after if found else complaints).strip().split("\n\n")
    return " ".join(" ".join(paragraphs[:2]).replace("│", " ").split())[:300] or "no reason given"


def _write_program(path: Path, text: str) -> None:
    """Writes and marks executable at once: a run beside this one sees the old or the new file, never a half."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text)
    part.chmod(0o755)
    part.replace(path)
