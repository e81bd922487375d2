"""Published CRDs of engines that are not installed here, from the Go modules that carry them.

A module is downloaded once into Go's own cache and checked against the hash that stands here; nothing of
it is copied into the project. What cannot be had is answered with the reason, so that a test that needs
it is skipped with that reason and counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.api import Api, Object
from lab.errors import LabError
from lab.toolchain import check_go

DOWNLOAD_BOUND_SECONDS = 300.0
SERVED_BOUND_SECONDS = 90.0
POLL_SECONDS = 0.5
# libyaml is ten times faster: Argo CD's definitions are two megabytes.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Progress = Callable[[str], None]


@dataclass(frozen=True)
class CrdModule:
    """A Go module, its hash as `go.sum` spells it, and where the CRDs lie in it, as glob patterns."""

    path: str
    version: str
    sum: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class NoCrds:
    """CRDs that cannot be had, and why."""

    name: str
    reason: str


MODULES: dict[str, CrdModule] = {
    "karpenter": CrdModule(
        "sigs.k8s.io/karpenter",
        "v1.13.0",
        "h1:7/ZergHciATEZ/hubSe9S2fB4iYWcRZqrWIItupUjVM=",
        ("pkg/apis/crds/*.yaml", "kwok/apis/crds/*.yaml"),
    ),
    "karpenter-aws": CrdModule(
        "github.com/aws/karpenter-provider-aws",
        "v1.13.0",
        "h1:NkFC6jM0JjnHMrIVCpmX0j5Gl2kGv9CV96oqvkExV4k=",
        ("pkg/apis/crds/karpenter.k8s.aws_*.yaml",),
    ),
    "argocd": CrdModule(
        "github.com/argoproj/argo-cd/v3",
        "v3.4.0",
        "h1:yZwfaOIzE/aQTA52mOfeZQbribmyxKYvMgirQja4eX0=",
        ("manifests/crds/*-crd.yaml",),
    ),
    "flux-kustomize": CrdModule(
        "github.com/fluxcd/kustomize-controller",
        "v1.7.3",
        "h1:SzNnGn/4ObAPEHHleM5U7y/AKxKXph3Vj6ZhteeXw8M=",
        ("config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml",),
    ),
    "flux-source": CrdModule(
        "github.com/fluxcd/source-controller",
        "v1.8.0",
        "h1:h549HUCBEG4jGs3uFYfb2+/XhJjcz+pvB8VG4mdSYDw=",
        ("config/crd/bases/source.toolkit.fluxcd.io_gitrepositories.yaml",),
    ),
    # v1beta2 is there since 0.15; the module proxy serves this version and not every other.
    "kueue": CrdModule(
        "sigs.k8s.io/kueue",
        "v0.17.0",
        "h1:7hzb38M4eKGzYW+CFv2s1L+swzzacUCHOCXxZmAV90I=",
        ("config/components/crd/bases/*.yaml",),
    ),
    "kuberay": CrdModule(
        "github.com/ray-project/kuberay/ray-operator",
        "v1.5.0",
        "h1:KCjCQ7PSsvs9Ke+90CZbbs498nuaIJ/JkXk4vd54EVg=",
        ("config/crd/bases/ray.io_ray*.yaml",),
    ),
    "prometheus-operator": CrdModule(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        (
            "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        ),
    ),
}
# Whoever has the files of an engine puts them into a folder of its name under this one.
CRDS_VARIABLE = "GPUMEM_CRDS"
# Nothing to download: the published module has Go types only, and no npm package has the models.
WITHOUT_A_MODULE = {
    "volcano": "volcano.sh/apis carries Go types and no CRD, and no package carries the models; "
    f"with its files (config/crd/volcano/bases) under ${CRDS_VARIABLE}/volcano it runs"
}


def find_crds(name: str, progress: Progress = lambda _: None) -> list[Object] | NoCrds:
    """The CustomResourceDefinitions called `name`: a key of `MODULES` or `WITHOUT_A_MODULE`.

    Raises:
        LabError: The folder `name` under $GPUMEM_CRDS has no YAML file.
    """
    own = os.environ.get(CRDS_VARIABLE)
    if own and (folder := Path(own, name)).is_dir():
        return list(_definitions(("*.yaml",), folder, f"${CRDS_VARIABLE}/{name}"))
    if reason := WITHOUT_A_MODULE.get(name):
        return NoCrds(name, reason)
    module = MODULES[name]
    try:
        folder = _downloaded(module, progress)
    except LabError as error:
        return NoCrds(name, str(error))
    return list(_definitions(module.files, folder, f"{module.path}@{module.version}"))


def apply_crds(api: Api, definitions: Sequence[Object]) -> None:
    """Creates those that are not there, and waits until the API server serves all.

    Raises:
        LabError: It does not serve one.
    """
    kinds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    paths = {f"{kinds}/{crd['metadata']['name']}": crd for crd in definitions}
    for path, crd in paths.items():
        if not api.exists(path):
            api.post(kinds, crd)
    deadline = time.monotonic() + SERVED_BOUND_SECONDS
    for path in paths:
        while not _is_served(api, api.get(path)):
            if time.monotonic() > deadline:
                raise LabError(f"{path} is not served after {SERVED_BOUND_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)


def lists_kind(api: Api, api_version: str, kind: str) -> bool:
    """Whether the API server's list of the group's kinds has this one."""
    path = f"/apis/{api_version}"
    return api.exists(path) and any(each["kind"] == kind for each in api.get(path)["resources"])


def _is_served(api: Api, crd: Object) -> bool:
    conditions = crd.get("status", {}).get("conditions") or []  # null until the server has looked at it
    if not any(each["type"] == "Established" and each["status"] == "True" for each in conditions):
        return False
    # The list of a group's kinds, which clients go by, is written later; with other kinds of the group it is there.
    spec = crd["spec"]
    versions = (version["name"] for version in spec["versions"] if version["served"])
    return all(lists_kind(api, f"{spec['group']}/{version}", spec["names"]["kind"]) for version in versions)


def _definitions(patterns: Sequence[str], folder: Path, where: str) -> Iterator[Object]:
    files = [file for pattern in patterns for file in sorted(folder.glob(pattern))]
    if not files:
        raise LabError(f"{where} has no file {' or '.join(patterns)}: correct lab/crds.py, or what lies there")
    for file in files:
        for document in yaml.load_all(file.read_text(encoding="utf-8"), _Loader):
            if document and document["kind"] == "CustomResourceDefinition":
                yield document


def _downloaded(module: CrdModule, progress: Progress) -> Path:
    """The module's folder in Go's cache.

    Raises:
        LabError: There is no Go, the module cannot be downloaded, or it is not the one that is pinned.
    """
    go, wanted = check_go(), f"{module.path}@{module.version}"
    progress(f"CRDs of {wanted}")
    # Outside any module, Go downloads this one alone and nothing that it needs.
    with tempfile.TemporaryDirectory() as nowhere:
        try:
            answer = subprocess.run(
                [go, "mod", "download", "-json", wanted],
                capture_output=True,
                text=True,
                timeout=DOWNLOAD_BOUND_SECONDS,
                cwd=nowhere,
                env=os.environ | {"GOFLAGS": "-mod=mod", "GOWORK": "off"},
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{wanted} was not there after {DOWNLOAD_BOUND_SECONDS:.0f} s") from error
    try:
        found: dict[str, str] = json.loads(answer.stdout)
    except json.JSONDecodeError as error:
        said = (answer.stdout + answer.stderr).strip()[-300:]
        raise LabError(f"`go mod download {wanted}` failed (exit {answer.returncode}): {said}") from error
    if "Error" in found or "Dir" not in found:
        raise LabError(f"{wanted} cannot be downloaded: {found.get('Error', 'no folder')}")
    if found["Sum"] != module.sum:
        raise LabError(f"{wanted} has the hash {found['Sum']}, and lab/crds.py pins {module.sum}")
    return Path(found["Dir"])
