"""The Containerfile as it stands; tests/e2e/test_container_build.py builds it."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import yaml

from helpers.apps.cli.__main__ import COMMANDS, cli
from helpers.domain import names
from lab.image_lock import image_lock
from lab.policy_tools import ACTIONLINT_VERSION, OPA, OPA_VERSION

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Containerfile").read_text()
INSTRUCTIONS = re.sub(r"\s*\\\n\s*", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE))
HELPERS = ("capacity", "exporter", "watchdog", "injector", "manager", "dra-agent", "coordinator")


def stages() -> dict[str, list[str]]:
    """Instructions of each stage by its name."""
    parts = re.split(r"^FROM (\S+) AS (\S+)\n", INSTRUCTIONS, flags=re.MULTILINE)
    return {
        name: [f"FROM {base}", *filter(None, map(str.strip, body.splitlines()))]
        for base, name, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    }


def test_there_is_one_target_a_helper_and_the_last_has_all() -> None:
    assert list(stages()) == ["build", "bullmq", "runtime", *HELPERS, "helpers"]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())
    assert sorted(workflow["jobs"]["image"]["strategy"]["matrix"]["target"]) == sorted([*HELPERS, "helpers"])


def test_bases_are_arguments_with_an_exact_default() -> None:
    bases = {lines[0].removeprefix("FROM ") for lines in stages().values()} - set(stages())
    assert bases == {"${PYTHON_IMAGE}", "${NODE_IMAGE}"}
    for default in re.findall(r"^ARG \w+_IMAGE=(\S+)$", INSTRUCTIONS, re.MULTILINE):
        assert re.search(r":\d+\.\d+\.\d+-", default), default


def test_what_runs_is_not_root_and_nothing_runs_while_it_is_built() -> None:
    assert "USER 65532:65532" in stages()["runtime"]
    assert 'ENTRYPOINT ["gpumem"]' in stages()["runtime"]
    for name in ("runtime", *HELPERS, "helpers"):
        kinds = [line.split()[0] for line in stages()[name]]
        assert "RUN" not in kinds, name
        assert kinds.count("USER") == (name == "runtime"), name


def test_every_package_comes_by_hash_as_a_wheel() -> None:
    installs = re.findall(r"pip (?:--python \S+ )?install [^&\n]*", INSTRUCTIONS)
    assert len(installs) == 3
    for line in installs:
        assert "--require-hashes --only-binary :all:" in line or "--no-index --no-deps /tmp/wheels/" in line


def test_the_images_lock_is_the_part_of_the_projects_lock_that_helpers_need() -> None:
    assert (ROOT / "images/helpers.lock").read_text() == image_lock(), "run `python -m lab.image_lock`"
    packages = re.findall(r"^([a-z0-9-]+)==", image_lock(), re.MULTILINE)
    assert {"kubernetes", "nvidia-ml-py", "psycopg-binary", "uvicorn"} <= set(packages)
    assert {"cdktf", "pytest", "mypy"}.isdisjoint(packages)


@pytest.mark.parametrize("helper", HELPERS)
def test_a_target_starts_a_command_that_there_is(helper: str) -> None:
    (line,) = [line for line in stages()[helper] if line.startswith("CMD ")]
    words = re.findall(r'"([^"]+)"', line)
    if words[0] not in COMMANDS:
        pytest.skip(f"gpumem {words[0]} is not on this branch")
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None, line
        command = found


def test_ports_and_variables_are_the_projects() -> None:
    exposed = {name: set(re.findall(r"\d+", " ".join(line for line in lines if line.startswith("EXPOSE"))))
               for name, lines in stages().items()}  # fmt: skip
    assert exposed["capacity"] == {str(names.CAPACITY_METRICS_PORT)}
    assert exposed["exporter"] == {str(names.EXPORTER_PORT)}
    assert exposed["watchdog"] == {str(names.WATCHDOG_METRICS_PORT)}
    assert exposed["injector"] == {str(names.INJECTOR_PORT), str(names.INJECTOR_METRICS_PORT)}
    assert exposed["coordinator"] == {str(names.COORDINATOR_PORT), str(names.LEASES_PORT)}
    assert exposed["manager"] == {str(names.MANAGER_PORT), str(names.MANAGER_METRICS_PORT)}
    assert f"ENV {names.ENV_BULLMQ_CLIENTS}=/opt/bullmq-clients" in stages()["coordinator"]


def test_the_judges_versions_are_those_of_their_locks() -> None:
    assert f"open-policy-agent/opa {OPA_VERSION}\n" in (OPA.folder / "go.mod").read_text()
    assert f"actionlint {ACTIONLINT_VERSION}\n" in (ROOT / "lab/tools/actionlint/go.mod").read_text()
