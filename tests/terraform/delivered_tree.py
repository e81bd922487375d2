"""What a GitOps engine does with a rendered tree, by hand: in order, each Job run as its account."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.domain.estate.model import Estate
from helpers.domain.names import ENV_STEP
from helpers.ports.cluster import ObjectRef
from helpers.rendering.gitops import delivered_folders
from helpers.rendering.render import render
from helpers.rendering.write import write_tree
from lab.cluster import Lab

DELIVERY_PREFIXES = ("argocd.argoproj.io/", "kustomize.toolkit.fluxcd.io/")
# Set by the server or by its controllers, so different in every cluster.
_SERVER_SET = ("managedFields", "uid", "resourceVersion", "creationTimestamp", "generation")
_CONTROLLER_SET = ("deployment.kubernetes.io/revision", "deprecated.daemonset.template.generation")
_STEP_SECONDS = 150


@dataclass(frozen=True)
class RunJob:
    """One Job's command as it ended."""

    name: str
    exit_code: int
    text: str


def apply_tree(estate: Estate, folder: Path, lab: Lab, field_manager: str) -> list[RunJob]:
    """Write the tree of `estate` and apply it in order, as an engine does: forced, by its own field manager.

    A hollow node's containers do nothing, so each Job's command is run here, with the Job's arguments and
    variables and the rights of its account. The first that fails is the last.
    """
    rendered = render(estate)
    folders = delivered_folders(estate, rendered)
    write_tree(rendered, folder, folders)
    cluster, done = connect(lab.kubeconfig), []
    for part in folders[:-1]:
        for file in sorted((folder / part.folder).glob("*.yaml")):
            manifest = yaml.safe_load(file.read_text())
            cluster.apply(manifest, field_manager=field_manager, force=True)
            if manifest["kind"] == "Job":
                done.append(_run(lab, manifest))
                if done[-1].exit_code:
                    return done
    return done


def live(cluster: KubernetesCluster, manifest: Any) -> dict[str, Any]:
    """The object of `manifest` as the cluster has it, without what the server and its controllers set."""
    metadata = manifest["metadata"]
    ref = ObjectRef(manifest["apiVersion"], manifest["kind"], metadata["name"], metadata.get("namespace", ""))
    found = cluster.get(ref)
    assert found is not None, f"{ref} is not there"
    return comparable(found)


def comparable(found: Any) -> dict[str, Any]:
    """`found` without what differs from cluster to cluster, and without what an engine is told about it."""
    plain: dict[str, Any] = copy.deepcopy(dict(found))
    plain.pop("status", None)
    metadata = plain["metadata"]
    for field in _SERVER_SET:
        metadata.pop(field, None)
    kept = {
        key: value
        for key, value in (metadata.pop("annotations", None) or {}).items()
        if not key.startswith(DELIVERY_PREFIXES) and key not in _CONTROLLER_SET
    }
    if kept:
        metadata["annotations"] = kept
    if plain["kind"] == "Service":
        for field in ("clusterIP", "clusterIPs"):
            plain["spec"].pop(field, None)
    return plain


def numbers(cluster: KubernetesCluster, resource: str) -> dict[str, tuple[str | None, str | None]]:
    """`{node: (capacity, allocatable)}` of `resource`."""
    return {
        node["metadata"]["name"]: (
            node["status"]["capacity"].get(resource),
            node["status"]["allocatable"].get(resource),
        )
        for node in cluster.list(ObjectRef("v1", "Node"))
    }


def _run(lab: Lab, job: dict[str, Any]) -> RunJob:
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    account = lab.service_account_kubeconfig(job["metadata"]["namespace"], pod["serviceAccountName"])
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert set(variables) == {ENV_STEP}
    assert isinstance(json.loads(variables[ENV_STEP]), dict)
    program = str(Path(sys.executable).parent / container["command"][0])
    ended = subprocess.run(
        [program, *container["args"]],
        env={**os.environ, "KUBECONFIG": str(account), **variables},
        capture_output=True,
        text=True,
        timeout=_STEP_SECONDS,
    )
    return RunJob(job["metadata"]["name"], ended.returncode, ended.stdout + ended.stderr)
