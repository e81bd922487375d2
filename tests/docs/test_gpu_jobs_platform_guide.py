"""What the guide says about jobs' platform is what the code says."""

from __future__ import annotations

from pathlib import Path

from helpers.domain import names
from helpers.domain.estate.node_pools import NodePool, duration_text
from lab.crds import MODULES, WITHOUT_A_MODULE
from lab.karpenter import KARPENTER_VERSION, MODULE

ROOT = Path(__file__).parents[2]
GUIDE = " ".join((ROOT / "docs/guides/gpu-jobs-platform.md").read_text(encoding="utf-8").split())


def test_the_versions_are_the_pinned_ones() -> None:
    for name, said in (("karpenter", "Karpenter"), ("karpenter-aws", "its AWS provider"), ("kueue", "Kueue")):
        assert f"{said} {MODULES[name].version}" in GUIDE, name
    assert f"kwok provider ({KARPENTER_VERSION})" in GUIDE
    assert "volcano" in WITHOUT_A_MODULE


def test_one_version_of_karpenter_is_built_and_its_crds_are_of_it() -> None:
    crds = MODULES["karpenter"]
    assert crds.version == KARPENTER_VERSION
    assert f"require {crds.path} {crds.version}" in (MODULE.folder / "go.mod").read_text(encoding="utf-8")
    assert f"{crds.path} {crds.version} {crds.sum}" in (MODULE.folder / "go.sum").read_text(encoding="utf-8")


def test_the_ages_are_the_pools_defaults() -> None:
    fields = NodePool.model_fields
    assert duration_text(fields["empty_after_seconds"].default) == "10m"
    assert fields["expire_after_seconds"].default == 7 * 24 * 3600
    assert "goes after 10 minutes, and one that is 7 days old" in GUIDE


def test_the_names_in_it_are_the_projects() -> None:
    assert f"`{names.project_label(names.DEFAULT_LABEL_PREFIX)}`" in GUIDE
    assert f"`{names.JOB_RESOURCE}.{names.JOB_GROUP}`" in GUIDE
    assert all(f"`{key}`" in GUIDE for key in names.DO_NOT_DISRUPT)
