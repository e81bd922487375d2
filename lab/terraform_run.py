"""Run the project's stacks through terraform (or tofu) against one cluster, as the demo and the tests do.

The estate is a copy in a work folder: synthesis, state and plugins lie there with it, so a run never
touches a user's own state.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.standins.install import ProviderChoice

PROJECT = Path(__file__).resolve().parents[1]
# Bounds against hanging; an apply waits for the gate (two minutes by default) and little else.
APPLY_BOUND_SECONDS = 420.0
NO_CHANGES, HAS_CHANGES = 0, 2


class TerraformFailed(LabError):
    """terraform ended with an error; the message holds its last lines."""


def find_terraform() -> str | None:
    """`terraform` from PATH, else `tofu`, else None."""
    return shutil.which("terraform") or shutil.which("tofu")


@dataclass(frozen=True)
class Plan:
    """One plan: terraform's detailed exit code and its JSON form."""

    code: int
    document: Mapping[str, Any]

    @property
    def is_empty(self) -> bool:
        """Whether terraform would change nothing."""
        return self.code == NO_CHANGES

    def changes(self) -> dict[str, tuple[str, ...]]:
        """`{address: actions}` of every resource that would change."""
        found = {}
        for change in self.document.get("resource_changes", []):
            actions = tuple(change["change"]["actions"])
            if actions not in (("no-op",), ("read",)):
                found[str(change["address"])] = actions
        return found


@dataclass
class TerraformRun:
    """The stacks of one estate against one cluster."""

    work_dir: Path
    estate_file: Path
    kubeconfig: Path
    providers: ProviderChoice
    terraform: str
    extra_environment: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """What every program of a run sees: this cluster, this estate, this environment's `gpumem`."""
        scripts = str(Path(sys.executable).parent)
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "GPUMEM_ESTATE": str(self.estate_file),
            "CDKTF_OUTDIR": str(self.out_dir),
            "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "CHECKPOINT_DISABLE": "1",
            **self.providers.environment(),
            **self.extra_environment,
        }

    @property
    def out_dir(self) -> Path:
        """Where the stacks are synthesised to."""
        return self.work_dir / "cdktf.out"

    def stack_dir(self, stack: str) -> Path:
        """The folder that terraform runs in for `stack`."""
        return self.out_dir / "stacks" / stack

    def synth(self) -> None:
        """Synthesise the stacks of the estate."""
        self.work_dir.mkdir(parents=True, exist_ok=True)
        self._run([sys.executable, str(PROJECT / "main.py")], PROJECT)

    def init(self, stack: str) -> None:
        """`terraform init`."""
        self._terraform(stack, "init", "-no-color")

    def plan(self, stack: str, *arguments: str) -> Plan:
        """`terraform plan -detailed-exitcode`, kept as `tfplan` for `apply`."""
        command = ["plan", "-no-color", "-detailed-exitcode", "-out=tfplan", *arguments]
        result = self._terraform(stack, *command, accept=(NO_CHANGES, HAS_CHANGES))
        shown = self._terraform(stack, "show", "-json", "tfplan")
        return Plan(result.returncode, json.loads(shown.stdout))

    def apply(self, stack: str) -> str:
        """Plan and apply; returns what terraform printed."""
        return self._terraform(stack, "apply", "-no-color", "-auto-approve").stdout

    def destroy(self, stack: str) -> str:
        """Destroy what the stack's state holds; returns what terraform printed."""
        return self._terraform(stack, "destroy", "-no-color", "-auto-approve").stdout

    def deploy(self, *stacks: str) -> None:
        """Synthesise, then init and apply each stack in order."""
        self.synth()
        for stack in stacks:
            self.init(stack)
            self.apply(stack)

    def outputs(self, stack: str) -> dict[str, Any]:
        """The stack's outputs, `{name: value}`."""
        shown = json.loads(self._terraform(stack, "output", "-json").stdout)
        return {name: entry["value"] for name, entry in shown.items()}

    def _terraform(
        self, stack: str, *arguments: str, accept: tuple[int, ...] = (0,)
    ) -> subprocess.CompletedProcess[str]:
        return self._run([self.terraform, *arguments], self.stack_dir(stack), accept)

    def _run(
        self, command: list[str], folder: Path, accept: tuple[int, ...] = (0,)
    ) -> subprocess.CompletedProcess[str]:
        try:
            result = subprocess.run(
                command,
                cwd=folder,
                env=self.environment(),
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=APPLY_BOUND_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise TerraformFailed(f"{' '.join(command)}: no end after {APPLY_BOUND_SECONDS:.0f} s") from error
        if result.returncode not in accept:
            said = f"{result.stdout}\n{result.stderr}".strip().splitlines()
            raise TerraformFailed(f"{' '.join(command[:3])} in {folder.name} failed:\n" + "\n".join(said[-40:]))
        return result
