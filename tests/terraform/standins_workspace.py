"""A terraform folder that a test drives, and the objects that the stand-in cases apply."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from lab.standins.install import ProviderChoice
from lab.terraform_run import find_terraform

PROGRAM = find_terraform() or "terraform"
RESOURCE = "viktorbarzin.me/gpumem"
REQUIRED = {
    "kubectl": {"source": "alekc/kubectl", "version": ">= 2.1, < 3"},
    "null": {"source": "hashicorp/null", "version": ">= 3.2, < 4"},
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One terraform run."""

    code: int
    text: str
    actions: dict[str, str]
    """Address → planned action (create, update, replace, delete), of those that do something."""


class Workspace:
    """A terraform folder with one provider choice."""

    def __init__(self, folder: Path, choice: ProviderChoice, kubeconfig: Path) -> None:
        self.folder = folder
        self.kubeconfig = kubeconfig
        self.environment = {**os.environ, **choice.environment(), "CHECKPOINT_DISABLE": "1"}

    def write(self, resources: dict[str, Any], **provider: Any) -> None:
        """The whole configuration: ``{type: {name: body}}`` and provider settings beside the kubeconfig."""
        settings = {"config_path": str(self.kubeconfig), "apply_retry_count": 0, **provider}
        config = {"terraform": {"required_providers": REQUIRED}, "provider": {"kubectl": settings}}
        body = {**config, "resource": resources} if resources else config
        (self.folder / "main.tf.json").write_text(json.dumps(body))

    def manifests(self, provider: dict[str, Any] | None = None, **manifests: dict[str, Any]) -> None:
        """The configuration of ``kubectl_manifest`` resources; each ``{"body": object, **attributes}``."""
        common = {"server_side_apply": True, "field_manager": "cases", "wait_for_rollout": False}
        resources = {}
        for name, given in manifests.items():
            attributes = {key: value for key, value in given.items() if key != "body"}
            resources[name] = {**common, **attributes, "yaml_body": text(given["body"])}
        self.write({"kubectl_manifest": resources}, **(provider or {}))

    def run(self, *arguments: str) -> Outcome:
        """One command; never waits for ever."""
        done = subprocess.run(
            [PROGRAM, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Outcome(done.returncode, done.stdout + done.stderr, {})

    def plan(self, *arguments: str) -> Outcome:
        """``plan -detailed-exitcode`` (0 nothing, 1 failed, 2 changes) with its actions."""
        outcome = self.run("plan", "-json", "-input=false", "-detailed-exitcode", *arguments)
        lines = [json.loads(line) for line in outcome.text.splitlines() if line.startswith("{")]
        changes = [line["change"] for line in lines if line["type"] == "planned_change"]
        return dataclasses.replace(outcome, actions={one["resource"]["addr"]: one["action"] for one in changes})

    def apply(self, *arguments: str) -> Outcome:
        """``apply`` without questions."""
        return self.run("apply", "-no-color", "-input=false", "-auto-approve", *arguments)

    def applied(self) -> None:
        """An apply that must succeed, with nothing left to do after it."""
        done = self.apply()
        assert done.code == 0, done.text
        again = self.plan()
        assert (again.code, again.actions) == (0, {}), again.text

    def state(self) -> dict[str, dict[str, Any]]:
        """Address → attributes."""
        held = json.loads((self.folder / "terraform.tfstate").read_text())["resources"]
        return {f"{one['type']}.{one['name']}": one["instances"][0]["attributes"] for one in held}


def text(body: dict[str, Any]) -> str:
    return yaml.safe_dump(body)


def config_map(namespace: str, name: str = "settings", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def deployment(namespace: str, budget: str) -> dict[str, Any]:
    container = {"name": "main", "image": "tenant:1", "resources": {"limits": {RESOURCE: budget}}}
    pod = {"metadata": {"labels": {"app": "tenant"}}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "tenant"}}, "template": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "tenant", "namespace": namespace},
        "spec": spec,
    }
