"""The example estate, its nodes in a lab of their own, and terraform against it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.domain.estate.model import Estate
from helpers.rendering.estate_file import load_estate
from lab import cluster
from lab.cluster import Lab
from lab.estate_nodes import nodes_of_estate
from lab.foreign import create_foreign_workloads
from lab.standins.install import ProviderChoice, choose_providers
from lab.terraform_run import PROJECT, TerraformRun, find_terraform

EXAMPLE = PROJECT / "gpumem.yaml"


def estate_text(**replacements: str) -> str:
    """The example estate with `old=new` text replacements; each must occur."""
    text = EXAMPLE.read_text()
    for old, new in replacements.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="session")
def terraform_program() -> str:
    program = find_terraform()
    assert program is not None, "tests marked terraform are skipped where there is none (tests/conftest.py)"
    return program


@pytest.fixture(scope="session")
def providers(terraform_program: str, tmp_path_factory: pytest.TempPathFactory) -> ProviderChoice:
    return choose_providers(terraform_program, tmp_path_factory.mktemp("providers"), Path(sys.executable))


@pytest.fixture(scope="module")
def estate() -> Estate:
    return load_estate(EXAMPLE)[0]


@pytest.fixture(scope="module")
def example_lab(estate: Estate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab with the example's T4 node and the workloads that another team owns."""
    root = tmp_path_factory.mktemp("labs")
    try:
        lab = cluster.up("terraform", nodes_of_estate(estate), root, print)
        create_foreign_workloads(lab.api(), estate)
        yield lab
    finally:
        cluster.down("terraform", root)


@pytest.fixture(scope="module")
def run(
    example_lab: Lab, providers: ProviderChoice, terraform_program: str, tmp_path_factory: pytest.TempPathFactory
) -> TerraformRun:
    """Terraform on a copy of the example, state and plugins in a folder of this module's own."""
    work_dir = tmp_path_factory.mktemp("terraform")
    copy = work_dir / "gpumem.yaml"
    shutil.copy(EXAMPLE, copy)
    return TerraformRun(work_dir, copy, example_lab.kubeconfig, providers, terraform_program)
