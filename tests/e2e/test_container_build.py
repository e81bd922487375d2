"""The Containerfile built here: real buildah, real packages by their hashes, bases made of this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.container_build import Buildah, find_buildah, make_bases
from lab.errors import LabError
from lab.programs import NoProgram, find_program
from tests.unit.test_containerfile import ROOT

pytestmark = pytest.mark.timeout(1800)  # a bound against hanging: the build takes a minute of one core


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """buildah with the two bases in a storage of its own."""
    if shutil.which("npm") is None:
        pytest.skip("PATH has no npm, which the image's stage for BullMQ's clients needs")
    found, busybox = find_buildah(tmp_path_factory.mktemp("buildah")), find_program("busybox")
    for one in (found, busybox):
        if isinstance(one, NoProgram):
            pytest.skip(f"{one.name} cannot be had, so the Containerfile was not built: {one.reason}")
    assert isinstance(found, Buildah)
    assert not isinstance(busybox, NoProgram)
    try:
        found.run("from", "scratch")
    except LabError as error:
        pytest.skip(f"buildah does not work on this machine, so the Containerfile was not built: {error}")
    make_bases(found, busybox.path)
    yield found
    found.run("rm", "--all")
    found.run("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def mounts(buildah: Buildah) -> list[str | Path]:
    return packages(buildah.folder)


@pytest.fixture(scope="module")
def built(buildah: Buildah, mounts: list[str | Path]) -> Buildah:
    """All stages, by way of the target that has all of them."""
    buildah.build("helpers", *mounts)
    return buildah


def packages(folder: Path) -> list[str | Path]:
    """Mounts by which a build finds its packages without asking anybody: wheels, and npm's cache."""
    wheels = folder / "wheels"
    for lock in ("helpers", "tools"):
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--require-hashes",
            "--only-binary",
            ":all:",
        ]
        subprocess.run([*command, "-r", ROOT / f"images/{lock}.lock", "-d", wheels], check=True, timeout=300)
    (folder / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    (folder / "npmrc").write_text("cache=/npm-cache\nprefer-offline=true\n")
    cache = subprocess.run(["npm", "config", "get", "cache"], check=True, capture_output=True, text=True, timeout=60)
    mounts = {
        wheels: "/wheels:ro",
        folder / "pip.conf": "/etc/pip.conf:ro",
        folder / "npmrc": "/usr/local/etc/npmrc:ro",
        Path(cache.stdout.strip()): "/npm-cache",
    }
    return [word for source, target in mounts.items() for word in ("--volume", f"{source}:{target}")]


@pytest.fixture(scope="module")
def container(built: Buildah) -> str:
    return built.run(
        "from", "--pull-never", "--signature-policy", built.folder / "policy.json", "localhost/gpumem-helpers"
    ).strip()


def test_the_program_runs_in_it_as_nobody_in_particular(built: Buildah, container: str) -> None:
    said = built.run("run", container, "--", "python", "-c", "import os; print(os.getuid(), os.getgid())")
    assert said.split() == ["65532", "65532"]
    assert built.run("run", container, "--", "gpumem", "--version").startswith("gpumem, version ")


def test_it_can_write_nowhere_but_where_a_pod_mounts_something(built: Buildah, container: str) -> None:
    code = "import os; print([top for top in ('/', '/opt/gpumem', '/usr', '/etc', '/root') if os.access(top, os.W_OK)])"
    assert built.run("run", container, "--", "python", "-c", code).strip() == "[]"


def test_every_module_of_the_helpers_is_there_and_loads(built: Buildah, container: str) -> None:
    code = (
        "import importlib, pkgutil, helpers; "
        "names = [m.name for m in pkgutil.walk_packages(helpers.__path__, 'helpers.') if '__main__' not in m.name]; "
        "[importlib.import_module(name) for name in names]; print(len(names) > 200)"
    )
    assert built.run("run", container, "--", "python", "-c", code).strip() == "True"


def test_what_is_no_python_is_there_as_well(built: Buildah, container: str) -> None:
    exported = built.run(
        "run", container, "--", "gpumem", "plan-check", "--export", "rego", "--output-dir", "/tmp/rules"
    )
    assert "/tmp/rules/gpumem.rego" in exported.splitlines()
    code = "from helpers.rendering.templates import MANIFESTS; print(any(MANIFESTS.rglob('*.j2')))"
    assert built.run("run", container, "--", "python", "-c", code).strip() == "True"


def test_the_coordinators_clients_of_bullmq_are_complete(built: Buildah, container: str) -> None:
    code = (
        "import os; from pathlib import Path; from helpers.adapters.bullmq_clients.hands import check_clients; "
        "check_clients(Path(os.environ['GPUMEM_BULLMQ_CLIENTS'])); print('complete')"
    )
    assert built.run("run", container, "--", "python", "-c", code).strip() == "complete"
    loads = "require('/opt/bullmq-clients/v6/node_modules/bullmq'); console.log('loads')"
    assert built.run("run", container, "--", "node", "-e", loads).strip() == "loads"


def test_no_installer_and_no_compiler_is_left(built: Buildah, container: str) -> None:
    code = (
        "import importlib.util, shutil; "
        "print([shutil.which(n) for n in ('cc', 'gcc', 'ld')], importlib.util.find_spec('pip'))"
    )
    assert built.run("run", container, "--", "/opt/gpumem/bin/python", "-c", code).strip() == "[None, None, None] None"


def test_the_bill_of_materials_names_what_is_locked_and_the_project(built: Buildah, container: str) -> None:
    document = json.loads(
        built.run("run", container, "--", "python", "-c", "print(open('/opt/gpumem/sbom.cdx.json').read())")
    )
    assert document["bomFormat"] == "CycloneDX"
    named = {
        f"{one['name']}=={one['version']}".lower().replace("_", "-").replace(".", "-") for one in document["components"]
    }
    lines = (ROOT / "images/helpers.lock").read_text().splitlines()
    locked = {line.split()[0].lower().replace(".", "-") for line in lines if "==" in line and not line.startswith(" ")}
    assert locked - named == set()
    assert document["metadata"]["component"]["name"] == "gpumem"


def test_a_target_is_the_same_layers_with_its_own_command(built: Buildah, mounts: list[str | Path]) -> None:
    """One of them; what each says is in tests/unit/test_containerfile.py."""
    built.build("exporter", *mounts)
    one, all_of_them = (
        json.loads(built.run("inspect", "--type", "image", f"localhost/gpumem-{name}"))["OCIv1"]
        for name in ("exporter", "helpers")
    )
    config = one["config"]
    assert (config["User"], config["Entrypoint"], config["Cmd"]) == ("65532:65532", ["gpumem"], ["exporter", "run"])
    assert "9836/tcp" in config["ExposedPorts"]
    layers = one["rootfs"]["diff_ids"]
    assert all_of_them["rootfs"]["diff_ids"][: len(layers)] == layers
